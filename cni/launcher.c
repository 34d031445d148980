/* launcher.c: the executed CNI plugin, small enough that starting it costs less than a millisecond.
 *
 * It decides nothing. It hands its CNI_* variables and its standard input to the node's daemon (the format is described
 * in wire.py), prints the answer and exits with the daemon's exit code. Where the daemon cannot be reached, or dies
 * before it has answered, it becomes the offline plugin (offline.py) with the same environment and input.
 *
 * Beside the executable lies `.podnet-bridge`, five lines: socket, python, root, state, run. shim.py is the same program
 * for machines without a C compiler; keep the two alike.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SIDECAR ".podnet-bridge"
#define ANSWER_TIMEOUT_S 60

extern char **environ;

static const char OFFLINE[] =
    "import sys; sys.path.insert(0, sys.argv[1]); from podnet.cni.offline import main; main(sys.argv[2:])";

struct buffer {
    char *data;
    size_t length, size;
};

struct node {
    char *socket, *python, *root, *state, *run;
};

/* An error object on standard output, as the spec asks; code 5 is an I/O failure. */
static void fail(const char *what)
{
    printf("{\"cniVersion\": \"1.1.0\", \"code\": 5, \"msg\": \"podnet-bridge: %s\", \"details\": \"%s\"}\n", what,
           strerror(errno));
    exit(1);
}

static void append(struct buffer *buffer, const void *data, size_t length)
{
    if (buffer->length + length > buffer->size) {
        buffer->size = (buffer->length + length) * 2 + 4096;
        buffer->data = realloc(buffer->data, buffer->size);
        if (buffer->data == NULL)
            fail("out of memory");
    }
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

/* Read to the end; -1 on an error. */
static int read_all(int fd, struct buffer *buffer)
{
    char chunk[65536];
    for (;;) {
        ssize_t count = read(fd, chunk, sizeof chunk);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return (int)count;
        append(buffer, chunk, (size_t)count);
    }
}

/* MSG_NOSIGNAL is for sockets only; SIGPIPE is ignored in main, so one loop serves files and sockets. */
static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t count = write(fd, data, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return -1;
        data += count;
        length -= (size_t)count;
    }
    return 0;
}

static struct node read_sidecar(void)
{
    static char path[PATH_MAX];
    static char text[5 * PATH_MAX];
    struct node node;
    char **field[] = {&node.socket, &node.python, &node.root, &node.state, &node.run};
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof SIDECAR - 1);
    if (length < 0)
        fail("cannot find myself");
    path[length] = '\0';
    strcpy(strrchr(path, '/') + 1, SIDECAR);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail("cannot read " SIDECAR " beside me");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    char *rest = text;
    for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
        *field[i] = strsep(&rest, "\n");
        if (*field[i] == NULL || **field[i] == '\0') {
            errno = EINVAL;
            fail(SIDECAR " is incomplete");
        }
    }
    return node;
}

/* Send the call and collect the answer; 0 when there is one. */
static int ask_daemon(const char *path, const struct buffer *input, struct buffer *answer)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
    struct buffer call = {0};
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    for (char **entry = environ; *entry != NULL; entry++)
        if (strncmp(*entry, "CNI_", 4) == 0)
            append(&call, *entry, strlen(*entry) + 1);
    append(&call, "", 1);
    append(&call, input->data, input->length);
    int done = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
               write_all(fd, call.data, call.length) == 0 && shutdown(fd, SHUT_WR) == 0 && read_all(fd, answer) == 0 &&
               answer->length >= 2;
    close(fd);
    free(call.data);
    return done ? 0 : -1;
}

/* The daemon is down: become the offline plugin, with what was read put back as standard input. */
static void go_offline(const struct node *node, const struct buffer *input)
{
    int fd = memfd_create("cni-stdin", 0);
    if (fd < 0 || write_all(fd, input->data, input->length) != 0 || lseek(fd, 0, SEEK_SET) != 0 || dup2(fd, 0) != 0)
        fail("cannot hand over my input");
    execl(node->python, node->python, "-IS", "-c", OFFLINE, node->root, node->state, node->run, (char *)NULL);
    fail("cannot start python");
}

int main(void)
{
    struct buffer input = {0}, answer = {0};
    const char *verb = getenv("CNI_COMMAND");
    struct node node = read_sidecar();
    signal(SIGPIPE, SIG_IGN);
    /* Somebody at a terminal gets his answer without having to end an input he did not mean to give. */
    if (verb != NULL && *verb != '\0' && !isatty(0) && read_all(0, &input) != 0)
        fail("cannot read my input");
    if (ask_daemon(node.socket, &input, &answer) != 0)
        go_offline(&node, &input);
    if (write_all(answer.data[1] == 2 ? 2 : 1, answer.data + 2, answer.length - 2) != 0)
        return 1;
    return (unsigned char)answer.data[0];
}
