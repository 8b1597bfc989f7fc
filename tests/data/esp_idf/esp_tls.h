/* What clients/c/port_esp_idf.c uses of ESP-IDF 5's esp_tls, as its API reference declares it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
typedef int esp_err_t;
typedef struct esp_tls esp_tls_t;
typedef struct {
    int timeout_ms;
    bool is_plain_tcp;
    esp_err_t (*crt_bundle_attach)(void *conf);
} esp_tls_cfg_t;
esp_tls_t *esp_tls_init(void);
int esp_tls_conn_new_sync(const char *hostname, int hostlen, int port, const esp_tls_cfg_t *cfg, esp_tls_t *tls);
ssize_t esp_tls_conn_write(esp_tls_t *tls, const void *data, size_t datalen);
ssize_t esp_tls_conn_read(esp_tls_t *tls, void *data, size_t datalen);
int esp_tls_conn_destroy(esp_tls_t *tls);
