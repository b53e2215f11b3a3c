/* Listens to a connection of siod, asks its server and answers it: cc -o attach attach.c && ./attach [CONNECTION]
 * C has no JSON, but siod writes one message a line and no white space between tokens, so two small functions find a
 * member. Text is printed with its JSON escapes. README.md says what happens here, step by step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#define JSON(value) (int)(end(value) - (value)), (value) /* for printf's %.*s */
#define TEXT(string) (int)(end(string) - (string)) - 2, (string) + 1
#define ASK(begin, ...) send(siod, request, (size_t)snprintf(request, sizeof request, \
    "{" begin ",\"params\":{\"connection\":\"%s\"," __VA_ARGS__), MSG_NOSIGNAL)

static char stream[128], request[1024]; /* the run of siod that is listened to, and what is asked */
static long long last;                  /* the last number heard in that run */

static const char *end(const char *at) { /* of the value that begins here */
    for (int depth = 0, text = 0; *at && (text || depth || !strchr(",}]", *at)); at++) {
        if (text && *at == '\\' && at[1]) at++;
        else if (*at == '"') text = !text;
        else if (!text) depth += !!strchr("{[", *at) - !!strchr("}]", *at);
    }
    return at;
}

static const char *member(const char *object, const char *name) { /* its value, NULL where there is none */
    size_t n = strlen(name);
    for (const char *at = object; at && (*at == '{' || *at == ',') && at[1] == '"'; at = end(at + 1))
        if (!strncmp(at + 2, name, n) && !strncmp(at + 2 + n, "\":", 2)) return at + n + 4;
    return NULL;
}
static int is(const char *value, const char *text) { return value && !strncmp(value, text, strlen(text)); }

static void hear(int siod, const char *name, const char *line) {
    const char *id = member(line, "id"), *result = member(line, "result"), *error = member(line, "error"), *found;
    const char *method = member(line, "method"), *params = member(line, "params");
    if (error) {
        fprintf(stderr, "%.*s\n", TEXT(member(error, "message")));
        if (is(id, "1,")) shutdown(siod, SHUT_RDWR);
    } else if (is(id, "1,")) {
        if (!*stream) ASK("\"id\":2,\"method\":\"emit\"", "\"event\":\"add\",\"args\":[2,3],\"ack\":true}}\n", name);
        found = member(result, "stream");
        if (!*stream || !is(found + 1, stream)) last = 0;
        snprintf(stream, sizeof stream, "%.*s", TEXT(found));
    } else if (is(id, "2,") && (found = member(result, "args"))) {
        printf("answer %.*s\n", JSON(found));
    } else if (is(method, "\"event\"") || is(method, "\"lifecycle\"")) {
        long long seq = atoll(member(params, "seq")), missed = seq - last - 1;
        if (missed > 0) fprintf(stderr, "missed %lld before %lld\n", missed, seq);
        printf("%lld %.*s", last = seq, TEXT(member(params, "event")));
        if ((found = member(params, "args"))) printf(" %.*s", JSON(found));
        puts("");
        if ((found = member(params, "ack")))
            ASK("\"method\":\"ack\"", "\"ack\":%.*s,\"args\":[\"yes\"]}}\n", name, JSON(found));
    } else if (is(method, "\"goodbye\""))
        fprintf(stderr, "siod says goodbye: %.*s\n", TEXT(member(params, "reason")));
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "chat", *own = getenv("XDG_RUNTIME_DIR"), *set = getenv("SIOD_SOCKET");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char *line = NULL; size_t size = 0;
    if (set && *set) snprintf(at.sun_path, sizeof at.sun_path, "%s", set);
    else snprintf(at.sun_path, sizeof at.sun_path, "%s/siod.sock", own && *own && getuid() ? own : "/run/siod");
    if (strlen(name) > 255 || strpbrk(name, "\"\\")) return fputs("no such name\n", stderr), 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    do {
        int siod = socket(AF_UNIX, SOCK_STREAM, 0);
        FILE *in = fdopen(siod, "r");
        if (!connect(siod, (struct sockaddr *)&at, sizeof at)) {
            ASK("\"id\":1,\"method\":\"subscribe\"", "\"after\":{\"stream\":\"%s\",\"seq\":%lld}}}\n", name, stream, last);
            while (getline(&line, &size, in) > 0 && strchr(line, '\n')) hear(siod, name, line);
        } else if (!*stream)
            perror(at.sun_path), fputs("no siod there: start `siod run`, or set SIOD_SOCKET\n", stderr);
        fclose(in);
    } while (*stream && !usleep(500000));
    return 1;
}
