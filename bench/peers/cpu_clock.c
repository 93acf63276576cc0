/*
 * The CPU time that a process used so far, in nanoseconds, by its own clock: with the threads that ended, and without the
 * rounding of /proc/PID/stat.
 *
 *     cpu_clock PID
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    clockid_t clock;
    struct timespec used;
    int error = clock_getcpuclockid((pid_t)atol(argv[1]), &clock);
    if (error) {
        fprintf(stderr, "process %s: %s\n", argv[1], strerror(error));
        return 1;
    }
    if (clock_gettime(clock, &used)) {
        perror(argv[1]);
        return 1;
    }
    printf("%lld\n", used.tv_sec * 1000000000LL + used.tv_nsec);
    return 0;
}
