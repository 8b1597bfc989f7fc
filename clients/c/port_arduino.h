// The port for Arduino; see headgate_client.h.
#ifndef HEADGATE_PORT_ARDUINO_H
#define HEADGATE_PORT_ARDUINO_H

#include <Client.h>

#include "headgate_client.h"

headgate_port headgate_arduino_port(Client &client);

#endif
