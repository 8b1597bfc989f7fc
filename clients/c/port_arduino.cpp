// The port for Arduino on the ESP32: any Client, so WiFiClient, WiFiClientSecure or EthernetClient.
// See headgate_client.h.
//
// In the sketch, with headgate_client.c, headgate_client.h and this file beside it:
//
//     WiFiClient wifi;
//     LittleFS.begin(true); LittleFS.mkdir("/out");             // it is mounted at /littlefs
//     headgate_port port = headgate_arduino_port(wifi);
//     headgate_config config = {};
//     config.host = "gateway"; config.port = 8080; config.token = TOKEN; config.spool = "/littlefs/out";
//     headgate_put(&config, &port, fb->buf, fb->len, nullptr);  // the frame of esp_camera
//     headgate_report report;
//     headgate_send(&config, &port, &report);                   // about once a minute
//
#include <Arduino.h>
#include <Client.h>

#include "port_arduino.h"

static const uint32_t TIMEOUT_MS = 90000;

static Client &at(void *context)
{
    return *static_cast<Client *>(context);
}

static int open_connection(void *context, const char *host, unsigned port)
{
    at(context).setTimeout(TIMEOUT_MS);
    return at(context).connect(host, static_cast<uint16_t>(port)) == 1 ? 0 : -1;
}

static int write_some(void *context, const void *data, size_t size)
{
    size_t wrote = at(context).write(static_cast<const uint8_t *>(data), size);
    return wrote > 0 ? static_cast<int>(wrote) : -1;
}

static int read_some(void *context, void *data, size_t size)
{
    Client &client = at(context);
    uint32_t began = millis();
    while (client.available() <= 0) {
        if (!client.connected()) {
            return 0;
        }
        if (millis() - began > TIMEOUT_MS) {
            return -1;
        }
        delay(5);
    }
    return client.read(static_cast<uint8_t *>(data), size);
}

static void close_connection(void *context)
{
    at(context).stop();
}

static void sleep_ms(void *, uint32_t milliseconds)
{
    delay(milliseconds);
}

static uint32_t chance(void *)
{
    return esp_random();
}

static void write_line(void *, const char *line)
{
    Serial.println(line);
}

headgate_port headgate_arduino_port(Client &client)
{
    headgate_port port = {&client,  open_connection, write_some, read_some, close_connection,
                          sleep_ms, chance,          write_line};
    return port;
}
