// What clients/c/port_arduino.cpp uses of Arduino's core for the ESP32.
#pragma once
#include <stddef.h>
#include <stdint.h>
uint32_t millis();
void delay(uint32_t ms);
uint32_t esp_random();
struct HardwareSerial {
    size_t println(const char *text);
};
extern HardwareSerial Serial;
