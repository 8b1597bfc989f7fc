/* The port for POSIX: BSD sockets. It also compiles with ESP-IDF, whose lwIP has them (http:// only;
 * port_esp_idf.c speaks TLS). */
#if !defined(_POSIX_C_SOURCE) && !defined(ESP_PLATFORM)
#define _POSIX_C_SOURCE 200809L
#endif
#include "port_posix.h"

#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_SECONDS 10
#define ANSWER_SECONDS 90
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

static void limit(int handle, int seconds)
{
    struct timeval most = {.tv_sec = seconds};
    setsockopt(handle, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most); /* connect(2) heeds it too */
    setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
}

static int open_connection(void *context, const char *host, unsigned port)
{
    headgate_posix *at = context;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found, *one;
    char service[8];
    snprintf(service, sizeof service, "%u", port % 65536);
    if (getaddrinfo(host, service, &hints, &found) != 0) {
        return -1;
    }
    at->handle = -1;
    for (one = found; one != NULL && at->handle < 0; one = one->ai_next) {
        int handle = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
        if (handle < 0) {
            continue;
        }
        limit(handle, CONNECT_SECONDS);
        if (connect(handle, one->ai_addr, one->ai_addrlen) == 0) {
            limit(handle, ANSWER_SECONDS);
            at->handle = handle;
        } else {
            close(handle);
        }
    }
    freeaddrinfo(found);
    return at->handle < 0 ? -1 : 0;
}

static int write_some(void *context, const void *data, size_t size)
{
    return (int)send(((headgate_posix *)context)->handle, data, size, MSG_NOSIGNAL);
}

static int read_some(void *context, void *data, size_t size)
{
    return (int)recv(((headgate_posix *)context)->handle, data, size, 0);
}

static void close_connection(void *context)
{
    close(((headgate_posix *)context)->handle);
}

static void sleep_ms(void *context, uint32_t milliseconds)
{
    struct timespec left = {.tv_sec = milliseconds / 1000,
                            .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    (void)context;
    while (nanosleep(&left, &left) != 0) {
    }
}

static uint32_t chance(void *context)
{
    uint32_t number = 0;
    FILE *file = fopen("/dev/urandom", "rb");
    (void)context;
    if (file == NULL || fread(&number, sizeof number, 1, file) != 1) {
        abort(); /* keys made without chance would name other pictures */
    }
    fclose(file);
    return number;
}

static void write_line(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "%s\n", line);
}

headgate_port headgate_posix_port(headgate_posix *context)
{
    headgate_port port = {context,  open_connection, write_some, read_some, close_connection,
                          sleep_ms, chance,          write_line};
    return port;
}
