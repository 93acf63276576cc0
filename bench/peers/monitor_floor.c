/*
 * The floor of `lockstep monitor`: /proc/stat and /proc/meminfo kept open, read with one pread each, parsed, one line of text
 * appended to a file, at absolute deadlines. What it shows is CPU and memory as far as a line of text needs them, by the
 * same definitions.
 *
 *     monitor_floor LOG INTERVAL_MS COUNT
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 16];
static unsigned long long older[8], newer[8];

static int read_whole(int fd) {
    ssize_t length = pread(fd, buffer, sizeof buffer - 1, 0);
    if (length <= 0) {
        perror("pread");
        exit(1);
    }
    buffer[length] = 0;
    return (int)length;
}

/* The number behind a key at the beginning of a line, in kB. */
static unsigned long long field(const char *key) {
    const char *at = buffer;
    size_t length = strlen(key);
    while (at) {
        if (strncmp(at, key, length) == 0) return strtoull(at + length, NULL, 10);
        at = strchr(at, '\n');
        if (at) at++;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int out = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
    int stat = open("/proc/stat", O_RDONLY), meminfo = open("/proc/meminfo", O_RDONLY);
    if (out < 0 || stat < 0 || meminfo < 0) {
        perror("open");
        return 1;
    }
    long long interval_ns = atoll(argv[2]) * 1000000LL;
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (long left = atol(argv[3]); left > 0; left--) {
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        due.tv_nsec += interval_ns % 1000000000LL;
        due.tv_sec += interval_ns / 1000000000LL + due.tv_nsec / 1000000000L;
        due.tv_nsec %= 1000000000L;

        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        read_whole(stat);
        memcpy(older, newer, sizeof older);
        char *at = buffer + 4;
        unsigned long long total = 0, delta[8];
        for (int column = 0; column < 8; column++) {
            newer[column] = strtoull(at, &at, 10);
            delta[column] = newer[column] > older[column] ? newer[column] - older[column] : 0;
            total += delta[column];
        }
        if (total == 0) total = 1;
        double share = 100.0 / (double)total;
        double busy = (double)(total - delta[3] - delta[4]) * share;

        read_whole(meminfo);
        unsigned long long memory = field("MemTotal:"), available = field("MemAvailable:");
        unsigned long long swap = field("SwapTotal:") - field("SwapFree:");

        struct tm utc;
        gmtime_r(&now.tv_sec, &utc);
        char line[512];
        int length = snprintf(line, sizeof line,
                              "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ  cpu %5.1f%%  user %5.1f%%  system %5.1f%%  iowait %5.1f%%  "
                              "steal %5.1f%%  memory %5.1f%%  used %llu KiB  available %llu KiB  total %llu KiB  swap used %llu KiB\n",
                              utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                              now.tv_nsec / 1000000, busy, (double)delta[0] * share, (double)delta[2] * share,
                              (double)delta[4] * share, (double)delta[7] * share,
                              (double)(memory - available) * 100.0 / (double)memory, memory - available, available, memory, swap);
        if (write(out, line, (size_t)length) != length) {
            perror("write");
            return 1;
        }
    }
    return 0;
}
