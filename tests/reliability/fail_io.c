/* Fails the Nth I/O call on the files under one folder, for fault_injection.py; preloaded in front of the C library.

   A call counts if its path, or the path of its descriptor, starts with the folder. `fail_io_arm` starts counting. Linux. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static atomic_long calls;
static long failing; /* the number of the call that fails; 0: none */
static int failure;  /* its errno */
static int lasting;  /* whether all later calls that need room fail too */

void fail_io_arm(const char *under, long number, int error, int stays) {
    snprintf(folder, sizeof folder, "%s", under);
    failing = number, failure = error, lasting = stays;
    atomic_store(&calls, 0);
}

long fail_io_calls(void) { return atomic_load(&calls); }

static int under(const char *path) { return folder[0] && path && !strncmp(path, folder, strlen(folder)); }

static int at(int directory, const char *path) {
    if (!folder[0] || !path) return 0;
    char full[PATH_MAX], link[64];
    ssize_t length = 0;
    if (path[0] == '/') return under(path);
    if (directory == AT_FDCWD) {
        if (!getcwd(full, sizeof full)) return 0;
        return under(full);
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    length = readlink(link, full, sizeof full - 1);
    return length > 0 && (full[length] = 0, under(full));
}

static int of(int descriptor) { return at(descriptor, ""); }

/* Whether this call is to fail. `takes_room`: it can fail again and again on a full disk. */
static int fails(int ours, int takes_room) {
    if (!ours || !failing) return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (number != failing && !(lasting && takes_room && number > failing)) return 0;
    errno = failure;
    return 1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define WRAP(type, name, parameters, arguments, ours, room) \
    type name parameters {                                  \
        REAL(name);                                         \
        return fails(ours, room) ? (type)-1 : real arguments; \
    }

#define OPEN(name, parameters, ours, first)                         \
    int name parameters {                                           \
        REAL(name);                                                 \
        va_list list;                                               \
        va_start(list, flags);                                      \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list);                                               \
        return fails(ours, flags & O_CREAT) ? -1 : real first;      \
    }

OPEN(open, (const char *path, int flags, ...), at(AT_FDCWD, path), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), at(AT_FDCWD, path), (path, flags, mode))
OPEN(openat, (int directory, const char *path, int flags, ...), at(directory, path), (directory, path, flags, mode))
OPEN(openat64, (int directory, const char *path, int flags, ...), at(directory, path), (directory, path, flags, mode))
WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), of(fd), 1)
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t offset), (fd, data, size, offset), of(fd), 1)
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t offset), (fd, data, size, offset), of(fd), 1)
WRAP(ssize_t, writev, (int fd, const struct iovec *data, int count), (fd, data, count), of(fd), 1)
WRAP(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), of(fd), 0)
WRAP(ssize_t, pread, (int fd, void *data, size_t size, off_t offset), (fd, data, size, offset), of(fd), 0)
WRAP(ssize_t, pread64, (int fd, void *data, size_t size, off64_t offset), (fd, data, size, offset), of(fd), 0)
WRAP(int, fsync, (int fd), (fd), of(fd), 1)
WRAP(int, fdatasync, (int fd), (fd), of(fd), 1)
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), of(fd), 1)
WRAP(int, ftruncate64, (int fd, off64_t size), (fd, size), of(fd), 1)
WRAP(int, rename, (const char *from, const char *to), (from, to), at(AT_FDCWD, to), 1)
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), at(b, to), 1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), at(AT_FDCWD, path), 1)
WRAP(int, unlink, (const char *path), (path), at(AT_FDCWD, path), 0)
WRAP(int, unlinkat, (int directory, const char *path, int flags), (directory, path, flags), at(directory, path), 0)
WRAP(int, rmdir, (const char *path), (path), at(AT_FDCWD, path), 0)
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode), at(AT_FDCWD, path), 0)

/* A failing close has closed all the same, and says what a delayed write could not do. */
int close(int fd) {
    REAL(close);
    int failed = fails(of(fd), 0), error = errno;
    int result = real(fd);
    return failed ? (errno = error, -1) : result;
}
