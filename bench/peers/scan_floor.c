/*
 * The floor of a look at all processes: /proc listed, PID/stat of each opened, read and closed, CPU, start and memory taken
 * from it, those with most of each remembered. Prints the median of CPU microseconds a process.
 *
 *     scan_floor SCANS
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned long long most_cpu, most_memory, oldest;

static long scan(DIR *proc) {
    long count = 0;
    char path[300], text[2048];
    struct dirent *entry;
    rewinddir(proc);
    while ((entry = readdir(proc))) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "%s/stat", entry->d_name);
        int file = openat(dirfd(proc), path, O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        ssize_t length = read(file, text, sizeof text - 1);
        close(file);
        if (length <= 0) continue;
        text[length] = 0;
        char *at = strrchr(text, ')');
        if (!at) continue;
        at += 3;
        unsigned long long field[25] = {0};
        for (int number = 4; number <= 24; number++) field[number] = strtoull(at + 1, &at, 10);
        unsigned long long cpu = field[14] + field[15];
        if (cpu > most_cpu) most_cpu = cpu;
        if (field[24] > most_memory) most_memory = field[24];
        if (field[22] > oldest) oldest = field[22];
        count++;
    }
    return count;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    int scans = argc == 2 ? atoi(argv[1]) : 0;
    DIR *proc = opendir("/proc");
    if (scans < 1 || !proc) return 2;
    double *costs = calloc((size_t)scans, sizeof *costs);
    /* The first finds them; what is asked is what each later one costs. */
    scan(proc);
    for (int number = 0; number < scans; number++) {
        sleep(1);
        double before = cpu_us();
        long count = scan(proc);
        costs[number] = (cpu_us() - before) / (double)count;
    }
    qsort(costs, (size_t)scans, sizeof *costs, by_size);
    printf("%f\n", costs[scans / 2]);
    return most_cpu + most_memory + oldest == 0;
}
