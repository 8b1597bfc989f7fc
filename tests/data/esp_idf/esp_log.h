#pragma once
#include <stdio.h>
#define ESP_LOGE(tag, format, ...) printf("%s " format, tag, __VA_ARGS__)
#define ESP_LOGW(tag, format, ...) printf("%s " format, tag, __VA_ARGS__)
