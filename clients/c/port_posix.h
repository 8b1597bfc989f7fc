/* The port for POSIX; see headgate_client.h. */
#ifndef HEADGATE_PORT_POSIX_H
#define HEADGATE_PORT_POSIX_H

#include "headgate_client.h"

typedef struct {
    int handle;
} headgate_posix;

headgate_port headgate_posix_port(headgate_posix *context);

#endif
