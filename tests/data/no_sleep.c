#define _POSIX_C_SOURCE 200809L
/* Linked with the C client in tests: notes how long it would have slept, and does not. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int nanosleep(const struct timespec *asked, struct timespec *left);

int nanosleep(const struct timespec *asked, struct timespec *left)
{
    const char *path = getenv("SLEPT");
    FILE *file = path != NULL ? fopen(path, "a") : NULL;
    (void)left;
    if (file != NULL) {
        fprintf(file, "%ld.%09ld\n", (long)asked->tv_sec, asked->tv_nsec);
        fclose(file);
    }
    return 0;
}
