/* Hands pictures to a Headgate gateway and erases each only when its receipt says that it may.
 *
 * For ESP32 (ESP-IDF, Arduino) and POSIX; C99, two files, no library. What it speaks is
 * docs/PROTOCOL.md. Pictures lie in a folder of a file system (LittleFS, FAT on a card, ext4) until
 * the gateway's receipt says "safe_to_erase". A pass tries a picture three times and goes on with
 * the next one, so no picture blocks another. Repeats are safe: each picture has an Idempotency-Key
 * that is on the card before the first attempt.
 *
 * Nothing here reads a clock: a device without one counts passes, so call headgate_send about once a
 * minute. One thread at a time may call these functions.
 */
#ifndef HEADGATE_CLIENT_H
#define HEADGATE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the machine does: one TCP (or TLS) connection at a time, waiting, and chance. port_posix.c,
 * port_esp_idf.c and port_arduino.cpp are three of them. Each call ends within a time of the port's
 * own: about 10 s to connect, 90 s for the next bytes. */
typedef struct {
    void *context;
    int (*connect)(void *context, const char *host, unsigned port);      /* 0, or -1 */
    int (*write)(void *context, const void *data, size_t size);          /* bytes taken, or -1 */
    int (*read)(void *context, void *data, size_t size);                 /* bytes; 0: ended; -1 */
    void (*close)(void *context);
    void (*sleep_ms)(void *context, uint32_t milliseconds);
    uint32_t (*random)(void *context);
    void (*log)(void *context, const char *line);                        /* may be NULL */
} headgate_port;

typedef struct {
    const char *host;           /* the gateway */
    unsigned port;              /* 8080 */
    const char *token;          /* NULL where the gateway takes pictures without one ... */
    const char *device;         /* ... and then the device's name */
    const char *spool;          /* a folder that exists, of this client's own */
    bool erase_when_accepted;   /* erase on 201: the gateway's disk is as good as the card */
    uint32_t ask_every;         /* passes between two questions for a receipt; 0: 60 */
    uint64_t max_bytes;         /* of all pictures in the spool; 0: as much as the card holds */
} headgate_config;

typedef enum {
    HEADGATE_OK,            /* the pass went through; pictures may have failed, and are kept */
    HEADGATE_UNREACHABLE,   /* no gateway answers */
    HEADGATE_NOT_NOW,       /* it takes nothing now: come back after wait_seconds */
    HEADGATE_NOT_ADMITTED,  /* it takes nothing from this sender: a wrong token, for example */
    HEADGATE_BAD_CONFIG,    /* a setting is missing, or too long */
    HEADGATE_CARD           /* the spool cannot be read or written, or is full */
} headgate_result;

typedef struct {
    unsigned taken, erased;     /* in this pass */
    unsigned failed;            /* in this pass; kept, and tried again in a later one */
    unsigned refused;           /* in this pass; kept for a person: headgate_retry sends them again */
    unsigned waiting, held;     /* in the spool after it, as far as this pass looked */
    uint32_t wait_seconds;      /* the gateway asks for so much peace */
    char said[192];             /* the last thing that went wrong, for a person */
} headgate_report;

/* Take a picture into the spool. Once it returns HEADGATE_OK, a power cut does not lose it.
 * captured_at: ISO 8601 with its zone, or NULL where the clock was never set. */
headgate_result headgate_put(const headgate_config *config, const headgate_port *port,
                             const void *picture, size_t size, const char *captured_at);

/* One pass over what waits, then receipts, then erasing. report may not be NULL. */
headgate_result headgate_send(const headgate_config *config, const headgate_port *port,
                              headgate_report *report);

/* Send every refused picture again in the next pass: for a person. How many there are, or -1. */
int headgate_retry(const headgate_config *config, const headgate_port *port);

#ifdef __cplusplus
}
#endif
#endif
