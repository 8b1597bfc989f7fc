/* See headgate_client.h.
 *
 * The spool: 00004711.pic is a picture, 00004711.rec what is known of it, "state" the next number
 * and the name from which keys are made. A picture is in the spool once its record is. A record is
 * written as .new and renamed; where a card's file system cannot rename over a file (FAT), the old
 * one is removed first, and a .new that ends with "end" counts when its .rec is missing.
 */
#if !defined(_POSIX_C_SOURCE) && !defined(ESP_PLATFORM) && !defined(ARDUINO)
#define _POSIX_C_SOURCE 200809L
#endif
#include "headgate_client.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 3                 /* of one picture in a pass; then the next one has its turn */
#define LONGEST_WAIT_SECONDS 60 /* a Retry-After up to this is waited for; a longer one ends the pass */
#define ASK_EVERY 60            /* passes */
#define BATCH 64                /* pictures that one pass looks at, and receipts that it asks for */
#define PAUSE_DOUBLES 6         /* a picture that fails waits for 1, 2, 4 ... 64 passes */
#define NUMBER_MAX 99999999u
#define PIECE 1024
#define ANSWER_BYTES_MAX (1u << 20)
#define PATH_SIZE 160

/* -- SHA-256 (FIPS 180-4) */

typedef struct {
    uint32_t h[8];
    uint64_t size;
    uint8_t block[64];
} sha256;

static uint32_t rotated(uint32_t word, unsigned by)
{
    return word >> by | word << (32 - by);
}

static void sha256_block(sha256 *s)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], v[8];
    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *b = s->block + 4 * i;
        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[i - 7] +
               (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    memcpy(v, s->h, sizeof v);
    for (unsigned i = 0; i < 64; i++) {
        uint32_t a = v[0], e = v[4];
        uint32_t t = v[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                     ((e & v[5]) ^ (~e & v[6])) + k[i] + w[i];
        uint32_t u = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) +
                     ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t;
        v[0] = t + u;
    }
    for (unsigned i = 0; i < 8; i++) {
        s->h[i] += v[i];
    }
}

static void sha256_begin(sha256 *s)
{
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, first, sizeof first);
    s->size = 0;
}

static void sha256_add(sha256 *s, const void *data, size_t size)
{
    const uint8_t *from = data;
    while (size > 0) {
        size_t at = (size_t)(s->size % 64), piece = 64 - at < size ? 64 - at : size;
        memcpy(s->block + at, from, piece);
        s->size += piece;
        from += piece;
        size -= piece;
        if (s->size % 64 == 0) {
            sha256_block(s);
        }
    }
}

static void sha256_end(sha256 *s, char hex[65])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = s->size * 8;
    uint8_t length[8];
    sha256_add(s, padding, (size_t)((119 - s->size % 64) % 64 + 1));
    for (unsigned i = 0; i < 8; i++) {
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    }
    sha256_add(s, length, sizeof length);
    for (unsigned i = 0; i < 8; i++) {
        snprintf(hex + 8 * i, 9, "%08lx", (unsigned long)s->h[i]);
    }
}

/* -- the top level of a JSON object, byte by byte: an answer of any length needs no memory */

typedef struct {
    char id[168], sha256[65], size[21], safe_to_erase[6], state[16];
    char retry[6], code[32], detail[160];
    char accepting[6], retry_after[12], max_image[21];
    bool complete, broken;
    int depth;
    bool in_string, escaped, in_value, is_string, cut;
    char name[20], value[168];
    size_t name_size, value_size;
} document;

static void document_keep(document *d)
{
    const struct {
        const char *name;
        char *into;
        size_t room;
        bool is_string;
    } known[] = {
        {"id", d->id, sizeof d->id, true},
        {"sha256", d->sha256, sizeof d->sha256, true},
        {"size", d->size, sizeof d->size, false},
        {"safe_to_erase", d->safe_to_erase, sizeof d->safe_to_erase, false},
        {"state", d->state, sizeof d->state, true},
        {"retry", d->retry, sizeof d->retry, false},
        {"code", d->code, sizeof d->code, true},
        {"detail", d->detail, sizeof d->detail, true},
        {"accepting", d->accepting, sizeof d->accepting, false},
        {"retry_after", d->retry_after, sizeof d->retry_after, false},
        {"max_image", d->max_image, sizeof d->max_image, false},
    };
    d->name[d->name_size] = d->value[d->value_size] = '\0';
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(d->name, known[i].name) == 0 && d->is_string == known[i].is_string) {
            bool fits = !d->cut && d->value_size < known[i].room;
            if (fits || known[i].into == d->detail) { /* only a sentence may be cut short */
                snprintf(known[i].into, known[i].room, "%.*s", (int)known[i].room - 1, d->value);
            }
        }
    }
}

static void document_append(document *d, char c)
{
    if (d->depth != 1) {
        return;
    }
    char *into = d->in_value ? d->value : d->name;
    size_t room = d->in_value ? sizeof d->value : sizeof d->name;
    size_t *size = d->in_value ? &d->value_size : &d->name_size;
    if (*size + 1 < room) {
        into[(*size)++] = c;
    } else if (d->in_value) {
        d->cut = true;
    } else {
        d->name[0] = '\0'; /* no name that is known is so long */
        d->name_size = 0;
        d->name[d->name_size++] = '?';
    }
}

static void document_feed(document *d, char c)
{
    if (d->in_string) {
        if (d->escaped) {
            d->escaped = false;
            document_append(d, strchr("\"\\/", c) != NULL ? c : '?');
        } else if (c == '\\') {
            d->escaped = true;
        } else if (c == '"') {
            d->in_string = false;
        } else {
            document_append(d, c);
        }
        return;
    }
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        return;
    }
    if (d->depth == 0) {
        if (c != '{' || d->complete) {
            d->broken = true;
        } else {
            d->depth = 1;
        }
        return;
    }
    switch (c) {
    case '"':
        d->in_string = true;
        if (d->depth == 1 && d->in_value) {
            d->is_string = true;
        } else if (d->depth == 1) {
            d->name_size = 0;
        }
        return;
    case '{':
    case '[':
        d->depth++;
        return;
    case '}':
    case ']':
        if (d->depth == 1 && d->in_value) {
            document_keep(d);
        }
        d->complete = --d->depth == 0;
        return;
    case ':':
        if (d->depth == 1) {
            d->in_value = true;
            d->is_string = d->cut = false;
            d->value_size = 0;
        }
        return;
    case ',':
        if (d->depth == 1) {
            document_keep(d);
            d->in_value = false;
        }
        return;
    default:
        if (d->in_value) {
            document_append(d, c);
        }
    }
}

/* -- HTTP: one request on one connection */

typedef enum {
    TAKEN,
    NO_ANSWER,    /* none, half of one, or none of the gateway's: sending again is safe */
    AGAIN,        /* the bytes may have changed on the way */
    LATER,        /* the gateway is busy, full or stopping */
    REFUSED,      /* this picture, as it is */
    NOT_ADMITTED, /* this sender, so every picture */
    CARD_FAILED   /* the picture cannot be read */
} outcome;

typedef struct {
    outcome outcome;
    int status;
    bool has_retry_after;
    uint32_t wait_seconds;
    document document;
} answer;

typedef struct {
    const headgate_config *config;
    const headgate_port *port;
    headgate_report *report;
    uint32_t pass;
    uint64_t max_image; /* 0: not known */
    answer answer;
    char head[1280];
    uint8_t buffer[PIECE];
    size_t at, end, received;
    bool failed; /* the connection, rather than ended */
} client;

static int next_byte(client *c)
{
    if (c->at == c->end) {
        int got = c->port->read(c->port->context, c->buffer, sizeof c->buffer);
        if (got <= 0 || c->received > ANSWER_BYTES_MAX) {
            c->failed = got != 0;
            return -1;
        }
        c->received += (size_t)got;
        c->at = 0;
        c->end = (size_t)got;
    }
    return c->buffer[c->at++];
}

/* A line without its end, cut to the room there is; false where the connection ended in it. */
static bool next_line(client *c, char *line, size_t room)
{
    size_t size = 0;
    for (;;) {
        int byte = next_byte(c);
        if (byte < 0) {
            return false;
        }
        if (byte == '\n') {
            break;
        }
        if (size + 1 < room) {
            line[size++] = (char)byte;
        }
    }
    if (size > 0 && line[size - 1] == '\r') {
        size--;
    }
    line[size] = '\0';
    return true;
}

static const char *header(const char *line, const char *name)
{
    size_t size = strlen(name);
    if (strncasecmp(line, name, size) != 0 || line[size] != ':') {
        return NULL;
    }
    line += size + 1;
    return line + strspn(line, " \t");
}

/* Read the head and the body of an answer; false unless all of it came. */
static bool read_answer(client *c)
{
    char line[256];
    long long length;
    bool chunked;
    do { /* interim answers (1xx) come before the one that counts */
        length = -1;
        chunked = false;
        if (!next_line(c, line, sizeof line) || strncmp(line, "HTTP/1.", 7) != 0 ||
            strlen(line) < 12) {
            return false;
        }
        c->answer.status = atoi(line + 9);
        for (;;) {
            const char *value;
            if (!next_line(c, line, sizeof line)) {
                return false;
            }
            if (line[0] == '\0') {
                break;
            }
            if ((value = header(line, "Content-Length")) != NULL) {
                length = atoll(value);
            } else if ((value = header(line, "Transfer-Encoding")) != NULL) {
                chunked = strcasecmp(value, "chunked") == 0;
            } else if ((value = header(line, "Retry-After")) != NULL) {
                c->answer.has_retry_after = true; /* a date, in place of a number, counts as 1 s */
                c->answer.wait_seconds =
                    isdigit((unsigned char)value[0]) ? (uint32_t)strtoul(value, NULL, 10) : 1;
            }
        }
    } while (c->answer.status >= 100 && c->answer.status < 200);
    while (chunked) {
        if (!next_line(c, line, sizeof line)) {
            return false;
        }
        unsigned long left = strtoul(line, NULL, 16);
        if (left == 0) {
            return isxdigit((unsigned char)line[0]) != 0;
        }
        for (; left > 0; left--) {
            int byte = next_byte(c);
            if (byte < 0) {
                return false;
            }
            document_feed(&c->answer.document, (char)byte);
        }
        if (!next_line(c, line, sizeof line)) {
            return false;
        }
    }
    while (length != 0) {
        int byte = next_byte(c);
        if (byte < 0) {
            return length < 0 && !c->failed; /* without a length, the end is the end */
        }
        document_feed(&c->answer.document, (char)byte);
        length -= length > 0;
    }
    return true;
}

static bool write_all(client *c, const void *data, size_t size)
{
    const char *from = data;
    while (size > 0) {
        int wrote = c->port->write(c->port->context, from, size);
        if (wrote <= 0) {
            return false;
        }
        from += wrote;
        size -= (size_t)wrote;
    }
    return true;
}

/* What an answer means: docs/PROTOCOL.md, "When it is refused". */
static outcome judged(const answer *a)
{
    const document *d = &a->document;
    if (!d->complete || d->broken) {
        return NO_ANSWER; /* a proxy's page, or half a document */
    }
    if (a->status == 200 || a->status == 201) {
        return TAKEN;
    }
    if (strcmp(d->retry, "true") == 0) {
        return a->has_retry_after ? LATER : AGAIN;
    }
    if (strcmp(d->retry, "false") != 0) {
        return NO_ANSWER;
    }
    switch (a->status) {
    case 401: case 403: case 404: case 405: case 407:
        return NOT_ADMITTED;
    default:
        return REFUSED;
    }
}

/* One attempt. lines: further header lines, each with its end. body: a file of size bytes, or NULL. */
static outcome ask(client *c, const char *method, const char *path, const char *lines, FILE *body,
                   uint64_t size)
{
    const headgate_config *config = c->config;
    memset(&c->answer, 0, sizeof c->answer);
    c->at = c->end = c->received = 0;
    c->failed = false;
    int used = snprintf(c->head, sizeof c->head,
                        "%s %s HTTP/1.1\r\nHost: %s:%u\r\nConnection: close\r\n%s%s%s%s%s%s%s\r\n",
                        method, path, config->host, config->port,
                        config->token ? "Authorization: Bearer " : "",
                        config->token ? config->token : "", config->token ? "\r\n" : "",
                        config->device ? "X-Device: " : "",
                        config->device ? config->device : "", config->device ? "\r\n" : "", lines);
    if (used < 0 || (size_t)used >= sizeof c->head) {
        return c->answer.outcome = CARD_FAILED;
    }
    if (c->port->connect(c->port->context, config->host, config->port) != 0) {
        return c->answer.outcome = NO_ANSWER;
    }
    bool open = write_all(c, c->head, (size_t)used);
    while (open && size > 0) {
        size_t piece = fread(c->buffer, 1, size < PIECE ? (size_t)size : PIECE, body);
        if (piece == 0) { /* cut the request: half a picture must never look whole */
            c->port->close(c->port->context);
            return c->answer.outcome = CARD_FAILED;
        }
        open = write_all(c, c->buffer, piece);
        size -= piece;
    }
    /* Also after a failed write: a refusal may have come before the end of the body. */
    bool whole = read_answer(c);
    c->port->close(c->port->context);
    return c->answer.outcome = whole ? judged(&c->answer) : NO_ANSWER;
}

static void pause_before_next(client *c, outcome what, unsigned attempt)
{
    uint32_t ms = what == AGAIN ? 500 : what == LATER ? 1000 * c->answer.wait_seconds : 1000u << attempt;
    if (ms < 500) {
        ms = 500;
    }
    /* With up to 50 % jitter, so that many cameras do not come back together. */
    c->port->sleep_ms(c->port->context, ms + c->port->random(c->port->context) % (ms / 2));
}

/* -- the spool */

typedef enum { WAITING, HELD, SAFE, KEPT } state; /* KEPT: refused, for a person */

static const char *const STATES[] = {"waiting", "held", "safe", "refused"};

typedef struct {
    uint32_t number;
    state state;
    char sha256[65];
    uint64_t size;
    char captured_at[40];
    char key[48]; /* the Idempotency-Key, made once */
    char id[168];
    uint32_t passes;    /* that tried it in vain */
    uint32_t next_pass; /* when it is tried, or its receipt asked for, again */
} record;

typedef struct {
    char id[33]; /* from which keys are made */
    uint32_t next, pass;
} spool_state;

static bool spool_path(const headgate_config *config, char path[PATH_SIZE], const char *name)
{
    int used = snprintf(path, PATH_SIZE, "%s/%s", config->spool, name);
    return used > 0 && used < PATH_SIZE;
}

static bool numbered_path(const headgate_config *config, char path[PATH_SIZE], uint32_t number,
                          const char *kind)
{
    char name[16];
    snprintf(name, sizeof name, "%08lu.%s", (unsigned long)(number % (NUMBER_MAX + 1)), kind);
    return spool_path(config, path, name);
}

static bool flushed(FILE *file)
{
    bool good = fflush(file) == 0 && fsync(fileno(file)) == 0;
    return fclose(file) == 0 && good;
}

/* Names survive a power cut on LittleFS and FAT once a file is closed; elsewhere the folder does. */
static bool folder_flushed(const headgate_config *config)
{
#if defined(ESP_PLATFORM) || defined(ARDUINO)
    (void)config;
    return true;
#else
    int folder = open(config->spool, O_RDONLY);
    if (folder < 0) {
        return false;
    }
    bool good = fsync(folder) == 0;
    close(folder);
    return good;
#endif
}

static bool replace(const headgate_config *config, const char *new, const char *path)
{
    if (rename(new, path) != 0) {
        if (remove(path) != 0 || rename(new, path) != 0) { /* FAT */
            return false;
        }
    }
    return folder_flushed(config);
}

static bool exists(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0;
}

/* The text of a file that ends with a line "end", or of its .new where it is missing. */
static bool read_text(const char *path, const char *new, char *text, size_t room)
{
    const char *const either[] = {path, new};
    for (unsigned i = 0; i < 2; i++) {
        FILE *file = fopen(either[i], "rb");
        if (file == NULL) {
            continue;
        }
        size_t size = fread(text, 1, room - 1, file);
        fclose(file);
        text[size] = '\0';
        if (size >= 4 && strcmp(text + size - 4, "end\n") == 0) {
            return true;
        }
    }
    return false;
}

static bool write_text(const headgate_config *config, const char *path, const char *new,
                       const char *text)
{
    FILE *file = fopen(new, "wb");
    if (file == NULL) {
        return false;
    }
    bool good = fputs(text, file) >= 0;
    return flushed(file) && good && replace(config, new, path);
}

/* The rest of the line "name=..." of a text. */
static bool value_of(const char *text, const char *name, char *value, size_t room)
{
    size_t size = strlen(name);
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        const char *end = strchr(line, '\n');
        if (end == NULL) {
            break;
        }
        if (strncmp(line, name, size) == 0 && line[size] == '=') {
            size_t length = (size_t)(end - line) - size - 1;
            if (length >= room) {
                return false;
            }
            memcpy(value, line + size + 1, length);
            value[length] = '\0';
            return true;
        }
    }
    return false;
}

static uint64_t number_of(const char *text, const char *name)
{
    char value[24];
    return value_of(text, name, value, sizeof value) ? strtoull(value, NULL, 10) : 0;
}

static bool save_record(const headgate_config *config, const record *r)
{
    char path[PATH_SIZE], new[PATH_SIZE], text[512];
    int used = snprintf(text, sizeof text,
                        "state=%s\nsha256=%s\nsize=%llu\ncaptured_at=%s\nkey=%s\nid=%s\n"
                        "passes=%lu\nnext_pass=%lu\nend\n",
                        STATES[r->state], r->sha256, (unsigned long long)r->size, r->captured_at,
                        r->key, r->id, (unsigned long)r->passes, (unsigned long)r->next_pass);
    return used > 0 && (size_t)used < sizeof text && numbered_path(config, path, r->number, "rec") &&
           numbered_path(config, new, r->number, "new") && write_text(config, path, new, text);
}

static bool load_record(const headgate_config *config, uint32_t number, record *r)
{
    char path[PATH_SIZE], new[PATH_SIZE], text[512], word[16];
    memset(r, 0, sizeof *r);
    r->number = number;
    if (!numbered_path(config, path, number, "rec") || !numbered_path(config, new, number, "new") ||
        !read_text(path, new, text, sizeof text) ||
        !value_of(text, "sha256", r->sha256, sizeof r->sha256) ||
        !value_of(text, "key", r->key, sizeof r->key) ||
        !value_of(text, "state", word, sizeof word)) {
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(word, STATES[i]) == 0) {
            r->state = (state)i;
        }
    }
    value_of(text, "captured_at", r->captured_at, sizeof r->captured_at);
    value_of(text, "id", r->id, sizeof r->id);
    r->size = number_of(text, "size");
    r->passes = (uint32_t)number_of(text, "passes");
    r->next_pass = (uint32_t)number_of(text, "next_pass");
    return strlen(r->sha256) == 64;
}

/* The file first, so that the record still says what it was. */
static void remove_picture(const headgate_config *config, uint32_t number)
{
    static const char *const kinds[] = {"pic", "rec", "new"};
    char path[PATH_SIZE];
    for (unsigned i = 0; i < 3; i++) {
        if (numbered_path(config, path, number, kinds[i])) {
            remove(path);
        }
    }
}

static bool save_state(const headgate_config *config, const spool_state *s)
{
    char path[PATH_SIZE], new[PATH_SIZE], text[96];
    snprintf(text, sizeof text, "id=%s\nnext=%lu\npass=%lu\nend\n", s->id, (unsigned long)s->next,
             (unsigned long)s->pass);
    return spool_path(config, path, "state") && spool_path(config, new, "state.new") &&
           write_text(config, path, new, text);
}

/* Call with each picture's record in the spool, in no order; those without a record are unfinished. */
static bool each_record(client *c, void (*visit)(client *, const record *, void *), void *context)
{
    DIR *folder = opendir(c->config->spool);
    if (folder == NULL) {
        return false;
    }
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char path[PATH_SIZE];
        record r;
        const char *name = entry->d_name;
        if (strlen(name) != 12 || strspn(name, "0123456789") != 8) {
            continue;
        }
        uint32_t number = (uint32_t)strtoul(name, NULL, 10);
        bool is_new = strcasecmp(name + 8, ".new") == 0;
        if (strcasecmp(name + 8, ".rec") != 0 && !is_new) {
            continue;
        }
        if (is_new && numbered_path(c->config, path, number, "rec") && exists(path)) {
            continue; /* it never got its name; the old record holds */
        }
        if (load_record(c->config, number, &r)) {
            visit(c, &r, context);
        }
    }
    closedir(folder);
    return true;
}

typedef struct {
    uint32_t largest;
    uint64_t bytes;
} usage;

static void add_usage(client *c, const record *r, void *context)
{
    usage *u = context;
    (void)c;
    u->bytes += r->size;
    u->largest = r->number > u->largest ? r->number : u->largest;
}

/* What the spool knows of itself; a fresh one gets a random name. */
static bool load_state(client *c, spool_state *s, uint64_t *bytes)
{
    char path[PATH_SIZE], new[PATH_SIZE], text[96];
    usage u = {0, 0};
    memset(s, 0, sizeof *s);
    if (!spool_path(c->config, path, "state") || !spool_path(c->config, new, "state.new") ||
        !each_record(c, add_usage, &u)) {
        return false;
    }
    if (read_text(path, new, text, sizeof text) && value_of(text, "id", s->id, sizeof s->id) &&
        strlen(s->id) == 32) {
        s->next = (uint32_t)number_of(text, "next");
        s->pass = (uint32_t)number_of(text, "pass");
    } else {
        for (unsigned i = 0; i < 4; i++) {
            snprintf(s->id + 8 * i, 9, "%08lx", (unsigned long)c->port->random(c->port->context));
        }
    }
    if (s->next <= u.largest) {
        s->next = u.largest + 1;
    }
    if (s->next == 0) {
        s->next = 1;
    }
    *bytes = u.bytes;
    return true;
}

/* -- pictures in */

static bool is_header(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

static bool is_usable(const headgate_config *config)
{
    const char *const texts[] = {config->host, config->spool, config->token ? config->token : "",
                                 config->device ? config->device : ""};
    for (unsigned i = 0; i < 4; i++) {
        if (texts[i] == NULL || strlen(texts[i]) > 120 || !is_header(texts[i])) {
            return false;
        }
    }
    /* A gateway cannot tell a repeat of a sender without a name. */
    return config->port > 0 && config->port < 65536 && (texts[2][0] != '\0' || texts[3][0] != '\0');
}

headgate_result headgate_put(const headgate_config *config, const headgate_port *port,
                             const void *picture, size_t size, const char *captured_at)
{
    if (!is_usable(config) || size == 0 ||
        (captured_at != NULL && (strlen(captured_at) > 39 || !is_header(captured_at)))) {
        return HEADGATE_BAD_CONFIG;
    }
    client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return HEADGATE_CARD;
    }
    c->config = config;
    c->port = port;
    spool_state s;
    uint64_t used;
    char path[PATH_SIZE];
    bool good = load_state(c, &s, &used) && s.next <= NUMBER_MAX &&
                (config->max_bytes == 0 || used + size <= config->max_bytes);
    free(c);
    /* The name from which keys are made is on the card before the first picture is. */
    if (!good || !save_state(config, &s) || !numbered_path(config, path, s.next, "pic")) {
        return HEADGATE_CARD;
    }
    record r = {.number = s.next, .state = WAITING, .size = size};
    snprintf(r.key, sizeof r.key, "%s-%lu", s.id, (unsigned long)s.next);
    sha256 digest;
    sha256_begin(&digest);
    sha256_add(&digest, picture, size);
    sha256_end(&digest, r.sha256);
    if (captured_at != NULL) {
        snprintf(r.captured_at, sizeof r.captured_at, "%s", captured_at);
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return HEADGATE_CARD;
    }
    good = fwrite(picture, 1, size, file) == size;
    good = flushed(file) && good && save_record(config, &r);
    if (!good) {
        remove_picture(config, s.next);
        return HEADGATE_CARD;
    }
    s.next++;
    save_state(config, &s); /* if that fails, the picture's own name says its number */
    return HEADGATE_OK;
}

/* -- pictures out */

static void say(client *c, uint32_t number, const char *what, const char *more)
{
    char *said = c->report->said;
    snprintf(said, sizeof c->report->said, "picture %lu %s%s%.140s", (unsigned long)number, what,
             more[0] != '\0' ? ": " : "", more);
    if (c->port->log != NULL) {
        c->port->log(c->port->context, said);
    }
}

static const char *words(const client *c)
{
    const document *d = &c->answer.document;
    return d->detail[0] != '\0' ? d->detail : d->code;
}

/* The handshake: whether the gateway is there, knows this sender, and takes pictures. */
static headgate_result reach(client *c)
{
    for (unsigned attempt = 0;; attempt++) {
        outcome what = ask(c, "GET", "/limits", "", NULL, 0);
        const document *d = &c->answer.document;
        if (what == TAKEN) {
            c->max_image = strtoull(d->max_image, NULL, 10);
            if (strcmp(d->accepting, "false") == 0) {
                c->report->wait_seconds = (uint32_t)strtoul(d->retry_after, NULL, 10);
                snprintf(c->report->said, sizeof c->report->said, "the gateway takes nothing now");
                return HEADGATE_NOT_NOW;
            }
            return HEADGATE_OK;
        }
        if (what == REFUSED || what == NOT_ADMITTED) {
            snprintf(c->report->said, sizeof c->report->said, "not admitted: %.160s", words(c));
            return HEADGATE_NOT_ADMITTED;
        }
        if (attempt + 1 == TRIES) {
            snprintf(c->report->said, sizeof c->report->said, "the gateway cannot be reached");
            return HEADGATE_UNREACHABLE;
        }
        pause_before_next(c, what, attempt);
    }
}

/* Whether the answer is a receipt of this picture: its id alone would not prove that. */
static bool is_receipt_of(const client *c, const record *r)
{
    const document *d = &c->answer.document;
    return d->id[0] != '\0' && strspn(d->id, "0123456789abcdefghijklmnopqrstuvwxyz"
                                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-") == strlen(d->id) &&
           strcmp(d->sha256, r->sha256) == 0 && strtoull(d->size, NULL, 10) == r->size;
}

static bool refuse(client *c, record *r, const char *why)
{
    r->state = KEPT;
    c->report->refused++;
    say(c, r->number, "is kept and not sent again", why);
    return save_record(c->config, r);
}

static bool became_safe(client *c, record *r)
{
    r->state = SAFE; /* written before the file goes, so that a power cut in between is understood */
    if (!save_record(c->config, r)) {
        return false;
    }
    remove_picture(c->config, r->number);
    c->report->erased++;
    return true;
}

static outcome post(client *c, const record *r)
{
    char path[PATH_SIZE], lines[448];
    snprintf(lines, sizeof lines,
             "Content-Type: application/octet-stream\r\nContent-Length: %llu\r\n"
             "Idempotency-Key: %s\r\nX-Sequence: %lu\r\nX-Sha256: %s\r\n%s%s%s",
             (unsigned long long)r->size, r->key, (unsigned long)r->number, r->sha256, r->captured_at[0] ? "X-Captured-At: " : "", r->captured_at,
             r->captured_at[0] ? "\r\n" : "");
    FILE *file = numbered_path(c->config, path, r->number, "pic") ? fopen(path, "rb") : NULL;
    if (file == NULL) {
        return CARD_FAILED;
    }
    outcome what = ask(c, "POST", "/images", lines, file, r->size);
    fclose(file);
    return what == TAKEN && !is_receipt_of(c, r) ? NO_ANSWER : what;
}

/* Try one picture up to three times. Anything but HEADGATE_OK ends the pass. */
static headgate_result send_one(client *c, record *r)
{
    const headgate_config *config = c->config;
    if (c->max_image > 0 && r->size > c->max_image) {
        return refuse(c, r, "it is larger than the gateway takes") ? HEADGATE_OK : HEADGATE_CARD;
    }
    unsigned again = 0;
    outcome what = NO_ANSWER;
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        what = post(c, r);
        if (what == TAKEN) {
            c->report->taken++;
            r->state = HELD;
            r->passes = 0;
            r->next_pass = c->pass + (config->ask_every ? config->ask_every : ASK_EVERY);
            snprintf(r->id, sizeof r->id, "%s", c->answer.document.id);
            if (config->erase_when_accepted ||
                strcmp(c->answer.document.safe_to_erase, "true") == 0) {
                return became_safe(c, r) ? HEADGATE_OK : HEADGATE_CARD;
            }
            return save_record(config, r) ? HEADGATE_OK : HEADGATE_CARD;
        }
        if (what == REFUSED || what == CARD_FAILED) {
            const char *why = what == REFUSED ? words(c) : "its file cannot be read";
            return refuse(c, r, why) ? HEADGATE_OK : HEADGATE_CARD;
        }
        if (what == NOT_ADMITTED) {
            say(c, r->number, "is not taken from this sender", words(c));
            return HEADGATE_NOT_ADMITTED;
        }
        again += what == AGAIN;
        if (what == LATER && c->answer.wait_seconds > LONGEST_WAIT_SECONDS) {
            break;
        }
        if (attempt + 1 < TRIES) {
            pause_before_next(c, what, attempt);
        }
    }
    if (again == TRIES) { /* these bytes were looked at three times, and would be a fourth */
        return refuse(c, r, words(c)) ? HEADGATE_OK : HEADGATE_CARD;
    }
    r->next_pass = c->pass + (1u << (r->passes < PAUSE_DOUBLES ? r->passes : PAUSE_DOUBLES));
    r->passes++;
    c->report->failed++;
    say(c, r->number, "is kept and tried again later", words(c));
    if (!save_record(config, r)) {
        return HEADGATE_CARD;
    }
    if (what == LATER && c->answer.wait_seconds > LONGEST_WAIT_SECONDS) {
        c->report->wait_seconds = c->answer.wait_seconds;
        return HEADGATE_NOT_NOW;
    }
    return reach(c); /* was it the picture, or the gateway? */
}

/* Ask for a receipt and do what it says. False: there was no answer, or the card failed. */
static bool ask_receipt(client *c, record *r)
{
    char path[192];
    const document *d = &c->answer.document;
    snprintf(path, sizeof path, "/images/%s", r->id);
    outcome what = ask(c, "GET", path, "", NULL, 0);
    r->next_pass = c->pass + (c->config->ask_every ? c->config->ask_every : ASK_EVERY);
    bool unknown = strcmp(d->code, "no_receipt") == 0;
    if (!unknown && (what != TAKEN || !is_receipt_of(c, r) || strcmp(d->id, r->id) != 0)) {
        return false;
    }
    if (unknown || strcmp(d->state, "lost") == 0) {
        say(c, r->number, "is sent again", "the gateway has it no longer");
        r->state = WAITING;
        r->id[0] = '\0';
        r->next_pass = 0;
        return save_record(c->config, r);
    }
    if (strcmp(d->safe_to_erase, "true") == 0) {
        return became_safe(c, r);
    }
    if (strcmp(d->state, "discarded") == 0) {
        return refuse(c, r, "a person at the gateway gave it up");
    }
    return save_record(c->config, r);
}

typedef struct {
    uint32_t number, rank;
} candidate;

typedef struct {
    candidate waiting[BATCH], held[BATCH];
    unsigned waitings, helds;
} batch;

/* Keep the BATCH best, in order: the lowest rank, then the lowest number. */
static void choose(candidate *list, unsigned *count, candidate one)
{
    unsigned at = *count;
    while (at > 0 && (list[at - 1].rank > one.rank ||
                      (list[at - 1].rank == one.rank && list[at - 1].number > one.number))) {
        at--;
    }
    if (at == BATCH) {
        return;
    }
    unsigned last = *count < BATCH ? *count : BATCH - 1;
    memmove(list + at + 1, list + at, (last - at) * sizeof *list);
    list[at] = one;
    *count = last + 1;
}

static void gather(client *c, const record *r, void *context)
{
    batch *b = context;
    c->report->waiting += r->state == WAITING;
    c->report->held += r->state == HELD;
    if (r->state == SAFE) { /* the power went while it was being erased */
        remove_picture(c->config, r->number);
        c->report->erased++;
    } else if (r->next_pass <= c->pass && r->state == WAITING) {
        /* Those that failed least come first: one that never gets through keeps nobody waiting. */
        choose(b->waiting, &b->waitings, (candidate){r->number, r->passes});
    } else if (r->next_pass <= c->pass && r->state == HELD) {
        choose(b->held, &b->helds, (candidate){r->number, r->next_pass});
    }
}

static headgate_result pass(client *c, batch *b)
{
    if (!each_record(c, gather, b)) {
        return HEADGATE_CARD;
    }
    if (b->waitings + b->helds == 0) {
        return HEADGATE_OK;
    }
    headgate_result result = reach(c);
    for (unsigned i = 0; i < b->waitings && result == HEADGATE_OK; i++) {
        record r;
        if (load_record(c->config, b->waiting[i].number, &r)) {
            result = send_one(c, &r);
            c->report->waiting -= r.state != WAITING;
            c->report->held += r.state == HELD;
        }
    }
    for (unsigned i = 0, failures = 0; i < b->helds && result == HEADGATE_OK; i++) {
        record r;
        if (load_record(c->config, b->held[i].number, &r)) {
            failures += !ask_receipt(c, &r);
            c->report->held -= r.state != HELD;
            c->report->waiting += r.state == WAITING;
            result = failures == TRIES ? HEADGATE_UNREACHABLE : HEADGATE_OK;
        }
    }
    return result;
}

headgate_result headgate_send(const headgate_config *config, const headgate_port *port,
                              headgate_report *report)
{
    memset(report, 0, sizeof *report);
    if (!is_usable(config)) {
        return HEADGATE_BAD_CONFIG;
    }
    client *c = calloc(1, sizeof *c); /* on the heap: tasks have small stacks */
    batch *b = calloc(1, sizeof *b);
    spool_state s;
    uint64_t used;
    headgate_result result = HEADGATE_CARD;
    if (c != NULL && b != NULL) {
        c->config = config;
        c->port = port;
        c->report = report;
        if (load_state(c, &s, &used)) {
            c->pass = ++s.pass;
            if (save_state(config, &s)) {
                result = pass(c, b);
            }
        }
    }
    free(b);
    free(c);
    return result;
}

static void put_back(client *c, const record *r, void *context)
{
    if (r->state == KEPT) {
        record again = *r;
        again.state = WAITING;
        again.passes = again.next_pass = 0;
        *(int *)context += save_record(c->config, &again);
    }
}

int headgate_retry(const headgate_config *config, const headgate_port *port)
{
    int count = 0;
    client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return -1;
    }
    c->config = config;
    c->port = port;
    bool good = each_record(c, put_back, &count);
    free(c);
    return good ? count : -1;
}
