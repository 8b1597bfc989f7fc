/* The port for ESP-IDF; see headgate_client.h. */
#ifndef HEADGATE_PORT_ESP_IDF_H
#define HEADGATE_PORT_ESP_IDF_H

#include "headgate_client.h"

typedef struct {
    bool tls;           /* https://, checked against ESP-IDF's bundle of certificates */
    void *connection;   /* an esp_tls_t */
} headgate_esp;

headgate_port headgate_esp_port(headgate_esp *context);

#endif
