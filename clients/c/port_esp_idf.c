/* The port for ESP-IDF 5: esp_tls, which speaks https:// and http://. See headgate_client.h.
 *
 * In the application: mount LittleFS or a card first, then
 *
 *     headgate_esp sockets = {.tls = true};
 *     headgate_port port = headgate_esp_port(&sockets);
 *     headgate_config config = {.host = "gateway", .port = 443, .token = token, .spool = "/card/out"};
 *     headgate_put(&config, &port, fb->buf, fb->len, NULL);     // the frame of esp_camera
 *     headgate_send(&config, &port, &report);                   // about once a minute, 6 KiB of stack
 *
 * A device that sleeps deeply in between calls both after it wakes; the spool remembers the rest.
 */
#include "port_esp_idf.h"

#include <string.h>

#include "esp_crt_bundle.h"
#include "esp_log.h"
#include "esp_random.h"
#include "esp_tls.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

#define TIMEOUT_MS 90000 /* esp_tls has one limit for connecting and for each read and write */

static int open_connection(void *context, const char *host, unsigned port)
{
    headgate_esp *at = context;
    esp_tls_cfg_t config = {
        .timeout_ms = TIMEOUT_MS,
        .is_plain_tcp = !at->tls,
        .crt_bundle_attach = at->tls ? esp_crt_bundle_attach : NULL,
    };
    at->connection = esp_tls_init();
    if (at->connection == NULL) {
        return -1;
    }
    if (esp_tls_conn_new_sync(host, (int)strlen(host), (int)port, &config, at->connection) != 1) {
        esp_tls_conn_destroy(at->connection);
        at->connection = NULL;
        return -1;
    }
    return 0;
}

static int write_some(void *context, const void *data, size_t size)
{
    return (int)esp_tls_conn_write(((headgate_esp *)context)->connection, data, size);
}

static int read_some(void *context, void *data, size_t size)
{
    return (int)esp_tls_conn_read(((headgate_esp *)context)->connection, data, size);
}

static void close_connection(void *context)
{
    headgate_esp *at = context;
    esp_tls_conn_destroy(at->connection);
    at->connection = NULL;
}

static void sleep_ms(void *context, uint32_t milliseconds)
{
    (void)context;
    vTaskDelay(pdMS_TO_TICKS(milliseconds));
}

static uint32_t chance(void *context)
{
    (void)context;
    return esp_random();
}

static void write_line(void *context, const char *line)
{
    (void)context;
    ESP_LOGW("headgate", "%s", line);
}

headgate_port headgate_esp_port(headgate_esp *context)
{
    headgate_port port = {context,  open_connection, write_some, read_some, close_connection,
                          sleep_ms, chance,          write_line};
    return port;
}
