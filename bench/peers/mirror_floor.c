// The floors of `bench/mirror`: what the calls of a mirror cost without everything else.
//
//   mirror_floor walk SRC DST THREADS   lists both trees, and looks at each entry of both: getdents64 and statx, nothing else
//   mirror_floor sync SRC DST THREADS   makes DST what SRC is by the safe calls alone: what is new is made in a hidden
//                                       directory that is then renamed in, or without a name that is then linked in; what
//                                       differs in size or time is written beside and renamed over; what is extra is unlinked;
//                                       times of directories last
//
// Regular files and directories only. It compares nothing but size and time, guards nothing, tells nothing, holds nobody
// off, and ends at the first error.

#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAMES_BYTES = 1 << 16, COPY_BYTES = 1 << 18 };

struct linux_dirent64 {
    uint64_t ino;
    int64_t off;
    unsigned short reclen;
    unsigned char type;
    char name[];
};

struct entry {
    char *name;
    unsigned char type;
};

struct list {
    struct entry *entries;
    size_t count, room;
};

// What waits: directories by their path, or with `make` one that DST does not have.
struct job {
    char *path;
    bool make;
};

static int source_root, dest_root;
static bool only_walk;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct job *jobs;
static size_t waiting, room;
static int idle, threads;
static char **touched;
static size_t touched_count, touched_room;
static atomic_uint temps;

static void *grow(void *held, size_t *room, size_t count, size_t each) {
    if (count < *room) return held;
    *room = *room ? *room * 2 : 64;
    held = realloc(held, *room * each);
    if (!held) err(1, "realloc");
    return held;
}

static char *join(const char *dir, const char *name) {
    char *path;
    if (asprintf(&path, *dir ? "%s/%s" : "%s%s", dir, name) < 0) err(1, "asprintf");
    return path;
}

static void push(char *path, bool make) {
    pthread_mutex_lock(&lock);
    jobs = grow(jobs, &room, waiting, sizeof *jobs);
    jobs[waiting++] = (struct job){path, make};
    if (idle) pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
}

static bool pop(struct job *job) {
    pthread_mutex_lock(&lock);
    idle++;
    while (!waiting && idle < threads) pthread_cond_wait(&more, &lock);
    bool found = waiting > 0;
    if (found) {
        idle--;
        *job = jobs[--waiting];
    } else {
        pthread_cond_broadcast(&more);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static void touch_later(const char *path) {
    pthread_mutex_lock(&lock);
    touched = grow(touched, &touched_room, touched_count, sizeof *touched);
    touched[touched_count++] = strdup(path);
    pthread_mutex_unlock(&lock);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static struct list list(int dir) {
    static _Thread_local char buffer[NAMES_BYTES];
    struct list list = {0};
    long bytes;
    while ((bytes = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < bytes;) {
            struct linux_dirent64 *found = (void *)(buffer + at);
            at += found->reclen;
            if (!strcmp(found->name, ".") || !strcmp(found->name, "..")) continue;
            list.entries = grow(list.entries, &list.room, list.count, sizeof *list.entries);
            list.entries[list.count++] = (struct entry){strdup(found->name), found->type};
        }
    }
    if (bytes < 0) err(1, "getdents64");
    if (list.count) qsort(list.entries, list.count, sizeof *list.entries, by_name);
    return list;
}

static void drop(struct list *list) {
    for (size_t n = 0; n < list->count; n++) free(list->entries[n].name);
    free(list->entries);
}

static struct statx look(int dir, const char *name) {
    struct statx stat;
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(dir, name, flags, STATX_BASIC_STATS, &stat)) err(1, "statx %s", name);
    return stat;
}

static int open_dir(int dir, const char *path) {
    int fd = openat(dir, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) err(1, "open %s", path);
    return fd;
}

static void set_time(int fd, const struct statx *of) {
    struct timespec times[2] = {{0, UTIME_OMIT}, {of->stx_mtime.tv_sec, of->stx_mtime.tv_nsec}};
    if (futimens(fd, times)) err(1, "futimens");
}

static void temp_name(char name[32]) {
    snprintf(name, 32, ".floor-%08x", atomic_fetch_add(&temps, 1));
}

static void fill(int dir, const char *name, int to, const struct statx *of) {
    static _Thread_local char buffer[COPY_BYTES];
    int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0) err(1, "open %s", name);
    uint64_t left = of->stx_size;
    if (left > 65536) {
        ssize_t copied;
        while (left && (copied = copy_file_range(from, NULL, to, NULL, left, 0)) > 0) left -= (uint64_t)copied;
    }
    while (left) {
        ssize_t bytes = read(from, buffer, left < sizeof buffer ? left : sizeof buffer);
        if (bytes <= 0 || write(to, buffer, (size_t)bytes) != bytes) err(1, "copy %s", name);
        left -= (uint64_t)bytes;
    }
    set_time(to, of);
    close(from);
}

// A directory that nobody sees yet, with all in it.
static void fill_dir(int source, int dest, const struct statx *of) {
    struct list names = list(source);
    for (size_t n = 0; n < names.count; n++) {
        const char *name = names.entries[n].name;
        struct statx stat = look(source, name);
        if (S_ISDIR(stat.stx_mode)) {
            int inner = open_dir(source, name);
            if (mkdirat(dest, name, 0700)) err(1, "mkdir %s", name);
            int made = open_dir(dest, name);
            fill_dir(inner, made, &stat);
            close(made);
            close(inner);
        } else {
            int to = openat(dest, name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, stat.stx_mode & 0777);
            if (to < 0) err(1, "create %s", name);
            fill(source, name, to, &stat);
            close(to);
        }
    }
    drop(&names);
    if (fchmod(dest, of->stx_mode & 07777)) err(1, "fchmod");
    set_time(dest, of);
}

static void make_dir(const char *path) {
    const char *slash = strrchr(path, '/');
    char *above = slash ? strndup(path, (size_t)(slash - path)) : strdup("");
    char temp[32];
    temp_name(temp);
    int parent = open_dir(dest_root, above), source = open_dir(source_root, path);
    if (mkdirat(parent, temp, 0700)) err(1, "mkdir %s", temp);
    int dest = open_dir(parent, temp);
    struct statx stat = look(source, "");
    fill_dir(source, dest, &stat);
    if (renameat2(parent, temp, parent, slash ? slash + 1 : path, RENAME_NOREPLACE)) err(1, "rename %s", path);
    close(dest);
    close(source);
    close(parent);
    free(above);
}

static void put(int source, int dest, const char *name, const struct statx *of, bool over) {
    char temp[32];
    int to;
    if (over) {
        temp_name(temp);
        to = openat(dest, temp, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
    } else {
        to = openat(dest, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    }
    if (to < 0) err(1, "create %s", name);
    if (fchmod(to, of->stx_mode & 07777)) err(1, "fchmod");
    fill(source, name, to, of);
    if (over ? renameat(dest, temp, dest, name) : linkat(to, "", dest, name, AT_EMPTY_PATH)) err(1, "name %s", name);
    close(to);
}

static void remove_all(int dir, const char *name, unsigned char type) {
    if (type == DT_DIR) {
        int inner = open_dir(dir, name);
        struct list names = list(inner);
        for (size_t n = 0; n < names.count; n++) remove_all(inner, names.entries[n].name, names.entries[n].type);
        drop(&names);
        close(inner);
    }
    if (unlinkat(dir, name, type == DT_DIR ? AT_REMOVEDIR : 0)) err(1, "unlink %s", name);
}

static void both(const char *path) {
    int source = open_dir(source_root, path), dest = open_dir(dest_root, path);
    struct list wanted = list(source), found = list(dest);
    bool changed = false;
    size_t w = 0, f = 0;
    while (w < wanted.count || f < found.count) {
        struct entry *want = w < wanted.count ? &wanted.entries[w] : NULL, *have = f < found.count ? &found.entries[f] : NULL;
        int order = !want ? 1 : !have ? -1 : strcmp(want->name, have->name);
        if (order > 0) {
            if (only_walk) look(dest, have->name);
            else remove_all(dest, have->name, have->type), changed = true;
            f++;
            continue;
        }
        struct statx of = look(source, want->name);
        bool is_dir = S_ISDIR(of.stx_mode);
        if (order == 0) {
            struct statx is = look(dest, have->name);
            bool same = of.stx_size == is.stx_size && of.stx_mtime.tv_sec == is.stx_mtime.tv_sec &&
                        of.stx_mtime.tv_nsec == is.stx_mtime.tv_nsec;
            if (is_dir) push(join(path, want->name), false);
            else if (!same && !only_walk) put(source, dest, want->name, &of, true), changed = true;
            f++;
        } else if (!only_walk) {
            changed = true;
            if (is_dir) push(join(path, want->name), true);
            else put(source, dest, want->name, &of, false);
        }
        w++;
    }
    drop(&wanted);
    drop(&found);
    close(dest);
    close(source);
    if (changed) touch_later(path);
}

static void *work(void *unused) {
    struct job job;
    while (pop(&job)) {
        if (job.make) make_dir(job.path);
        else both(job.path);
        free(job.path);
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 5) errx(2, "mirror_floor walk|sync SRC DST THREADS");
    only_walk = !strcmp(argv[1], "walk");
    threads = atoi(argv[4]);
    if (threads < 1 || threads > 64) errx(2, "1 to 64 threads");
    if (!only_walk && mkdir(argv[3], 0755) && access(argv[3], F_OK)) err(1, "%s", argv[3]);
    source_root = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dest_root = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source_root < 0 || dest_root < 0) err(1, "open");
    push(strdup(""), false);
    pthread_t others[64];
    for (int n = 1; n < threads; n++)
        if (pthread_create(&others[n], NULL, work, NULL)) errx(1, "pthread_create");
    work(NULL);
    for (int n = 1; n < threads; n++) pthread_join(others[n], NULL);
    for (size_t n = touched_count; n-- > 0;) {
        int source = open_dir(source_root, touched[n]), dest = open_dir(dest_root, touched[n]);
        struct statx stat = look(source, "");
        set_time(dest, &stat);
        close(dest);
        close(source);
    }
    return 0;
}
