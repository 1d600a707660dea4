/* A disk that fails: preloaded into one process, it stands between that process and the system's own calls.
 *
 * The plan lies in a file that the test writes and this process has mapped, so that a fault begins when the
 * test wants it to. What does not bear the wanted part in its path is left alone. A failing sync takes back
 * what was written since the last good one, as a kernel does that drops the pages it could not write.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2 };
enum { FAIL = 1, TEAR = 2, LOSE = 4 };

struct plan {
    uint32_t calls;    /* which: WRITE, SYNC or both; 0 is a disk without faults */
    uint32_t how;      /* FAIL, TEAR (half of a write), LOSE (with a failed sync) */
    int32_t skip;      /* so many of them go well before */
    int32_t times;     /* then so many fail, and the rest goes well again */
    uint32_t delay_ms; /* each takes so much longer */
    uint32_t hits;     /* told back: so many were hit */
    char path[128];
};

struct undo {
    struct undo *before;
    int fd;
    ino_t file; /* whoever syncs may have opened it anew */
    off_t at;
    size_t bytes;
    char was[];
};

static struct plan *plan;
static struct undo *unsynced;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void map_plan(void) {
    const char *path = getenv("BAD_DISK");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) plan = at;
}

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static int meant(int fd, uint32_t call) {
    char link[64], path[512];
    if (!plan || !(plan->calls & call)) return 0;
    char *end = link + sizeof link;
    *--end = 0;
    unsigned n = (unsigned)fd;
    do *--end = (char)('0' + n % 10); while (n /= 10);
    end -= 14;
    memcpy(end, "/proc/self/fd/", 14);
    ssize_t length = readlink(end, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, plan->path) != NULL;
}

/* Whether this call fails; it is late in any case. */
static int strikes(void) {
    if (plan->delay_ms) {
        struct timespec pause = {plan->delay_ms / 1000, plan->delay_ms % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
    if (__atomic_fetch_sub(&plan->skip, 1, __ATOMIC_SEQ_CST) > 0) return 0;
    if (__atomic_fetch_sub(&plan->times, 1, __ATOMIC_SEQ_CST) <= 0) return 0;
    __atomic_fetch_add(&plan->hits, 1, __ATOMIC_SEQ_CST);
    return 1;
}

static ino_t file_of(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 ? about.st_ino : 0;
}

static void remember(int fd, size_t bytes, off_t at) {
    if (!plan || !(plan->how & LOSE) || !meant(fd, SYNC)) return;
    struct undo *undo = malloc(sizeof *undo + bytes);
    if (!undo) return;
    ssize_t was = pread(fd, undo->was, bytes, at);
    undo->fd = fd, undo->file = file_of(fd), undo->at = at, undo->bytes = was > 0 ? (size_t)was : 0;
    /* Beyond the end there was nothing: zeroes, as in a file whose size was kept and whose data was not. */
    if (undo->bytes < bytes) memset(undo->was + undo->bytes, 0, bytes - undo->bytes), undo->bytes = bytes;
    pthread_mutex_lock(&lock);
    undo->before = unsynced, unsynced = undo;
    pthread_mutex_unlock(&lock);
}

static void settle(int fd, int lost) {
    ino_t file = file_of(fd);
    pthread_mutex_lock(&lock);
    for (struct undo **place = &unsynced; *place;) {
        struct undo *undo = *place;
        if (undo->file != file) {
            place = &undo->before;
            continue;
        }
        if (lost) REAL(pwrite64, undo->fd, undo->was, undo->bytes, undo->at);
        *place = undo->before;
        free(undo);
    }
    pthread_mutex_unlock(&lock);
}

static ssize_t fails(void) {
    errno = EIO;
    return -1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) {
    remember(fd, count, at);
    if (meant(fd, WRITE) && strikes()) {
        if (plan->how & TEAR) REAL(pwrite64, fd, bytes, count / 2, at);
        return fails();
    }
    return REAL(pwrite64, fd, bytes, count, at);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (meant(fd, WRITE) && strikes()) {
        if (plan->how & TEAR) REAL(write, fd, bytes, count / 2);
        return fails();
    }
    return REAL(write, fd, bytes, count);
}

static int synced(int fd, int (*sync)(int)) {
    if (meant(fd, SYNC) && strikes()) {
        settle(fd, plan->how & LOSE);
        return (int)fails();
    }
    int done = sync(fd);
    if (plan && (plan->how & LOSE) && done == 0) settle(fd, 0);
    return done;
}

static int really_fsync(int fd) { return REAL(fsync, fd); }
static int really_fdatasync(int fd) { return REAL(fdatasync, fd); }
int fsync(int fd) { return synced(fd, really_fsync); }
int fdatasync(int fd) { return synced(fd, really_fdatasync); }
