/* pause.c: sleep until SIGINT or SIGTERM, and reap whatever is orphaned meanwhile (it may be PID 1 of a pod).
 *
 * The same program as pause.py, for machines with a C compiler: a pod that only waits then costs no interpreter.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void told(int number)
{
    (void)number;
}

int main(int argc, char **argv)
{
    sigset_t set;
    int number;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "-v") == 0) {
            puts("pause.c podnet");
            return 0;
        }
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    /* Never called, but seen in /proc: a signal that is waited for is not listed there as blocked. */
    signal(SIGINT, told);
    signal(SIGTERM, told);
    for (;;) {
        if (sigwait(&set, &number) != 0 || number != SIGCHLD)
            return 0;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
