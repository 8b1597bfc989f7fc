/* What docs/PROTOCOL.md uses of the component esp32-camera. */
#pragma once
#include <stddef.h>
#include <stdint.h>
typedef struct {
    uint8_t *buf;
    size_t len;
} camera_fb_t;
camera_fb_t *esp_camera_fb_get(void);
void esp_camera_fb_return(camera_fb_t *fb);
