/* The client as a command of a POSIX machine:
 *
 *     headgate-client HOST PORT SPOOL put FILE...
 *     headgate-client HOST PORT SPOOL send | retry
 *
 * HEADGATE_CLIENT_TOKEN has the token; without one, HEADGATE_CLIENT_DEVICE has the device's name.
 * HEADGATE_CLIENT_ERASE=accepted erases on 201. Exit codes: 0 nothing waits; 1 pictures wait; 2 usage
 * or settings; 3 pictures were refused in this pass and need a person; 4 the spool fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port_posix.h"

static int put(const headgate_config *config, const headgate_port *port, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 2;
    }
    char *picture = NULL;
    size_t size = 0, room = 0, got;
    do {
        if (size == room) {
            char *larger = realloc(picture, room = 2 * room + 65536);
            if (larger == NULL) {
                free(picture);
                fclose(file);
                return 4;
            }
            picture = larger;
        }
        got = fread(picture + size, 1, room - size, file);
        size += got;
    } while (got > 0);
    fclose(file);
    headgate_result result = headgate_put(config, port, picture, size, NULL);
    free(picture);
    if (result != HEADGATE_OK) {
        fprintf(stderr, "%s: %s\n", path,
                result == HEADGATE_BAD_CONFIG ? "a setting or the picture is not usable"
                                              : "the spool is full, or cannot be written");
    }
    return result == HEADGATE_OK ? 0 : result == HEADGATE_BAD_CONFIG ? 2 : 4;
}

int main(int count, char **words)
{
    if (count < 5 || (strcmp(words[4], "put") == 0) != (count > 5)) {
        fprintf(stderr, "usage: headgate-client HOST PORT SPOOL put FILE... | send | retry\n");
        return 2;
    }
    const char *erase = getenv("HEADGATE_CLIENT_ERASE"), *ask = getenv("HEADGATE_CLIENT_ASK_EVERY");
    headgate_config config = {
        .host = words[1],
        .port = (unsigned)strtoul(words[2], NULL, 10),
        .token = getenv("HEADGATE_CLIENT_TOKEN"),
        .device = getenv("HEADGATE_CLIENT_DEVICE"),
        .spool = words[3],
        .erase_when_accepted = erase != NULL && strcmp(erase, "accepted") == 0,
        .ask_every = ask != NULL ? (uint32_t)strtoul(ask, NULL, 10) : 0,
    };
    headgate_posix sockets;
    headgate_port port = headgate_posix_port(&sockets);
    if (strcmp(words[4], "put") == 0) {
        int worst = 0;
        for (int i = 5; i < count; i++) {
            int code = put(&config, &port, words[i]);
            worst = code > worst ? code : worst;
        }
        return worst;
    }
    if (strcmp(words[4], "retry") == 0) {
        printf("%d put back\n", headgate_retry(&config, &port));
        return 0;
    }
    headgate_report report;
    headgate_result result = headgate_send(&config, &port, &report);
    printf("%u taken, %u erased, %u waiting, %u held, %u refused\n", report.taken, report.erased,
           report.waiting, report.held, report.refused);
    if (result == HEADGATE_BAD_CONFIG || result == HEADGATE_CARD) {
        fprintf(stderr, "%s\n", result == HEADGATE_CARD ? "the spool cannot be read or written"
                                                        : "a setting is missing or too long");
        return result == HEADGATE_CARD ? 4 : 2;
    }
    if (result != HEADGATE_OK) {
        printf("%s\n", report.said);
    }
    return report.refused ? 3 : report.waiting || result != HEADGATE_OK ? 1 : 0;
}
