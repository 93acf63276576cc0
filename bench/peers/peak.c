// Runs a program and writes the most memory it had resident, in KiB, to a file:
//
//   peak FILE PROGRAM ARGUMENT...
//
// What a process has before it becomes another program counts as well, so its parent has to be this small.

#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3) errx(2, "peak FILE PROGRAM ARGUMENT...");
    pid_t child = vfork();
    if (child < 0) err(1, "vfork");
    if (child == 0) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    int status;
    struct rusage used;
    if (wait4(child, &status, 0, &used) < 0) err(1, "wait4");
    FILE *file = fopen(argv[1], "w");
    if (!file || fprintf(file, "%ld\n", used.ru_maxrss) < 0 || fclose(file)) err(1, "%s", argv[1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
