/* A wall clock that is set, as one process sees it: readings and the kernel's receive stamps.

   Loaded before libc (LD_PRELOAD). WALL_CLOCK_FILE holds two numbers of 64 bits: the moment by the
   machine's own wall clock at which it is set, and by how many nanoseconds. What is stamped before
   that moment keeps its stamp, as it would. No other clock is touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static const volatile int64_t *set;
static int (*read_clock)(clockid_t, struct timespec *);
static ssize_t (*receive_one)(int, struct msghdr *, int);
static int (*receive_many)(int, struct mmsghdr *, unsigned int, int, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WALL_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *shared = mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED) abort();
    close(file);
    set = shared;
    read_clock = dlsym(RTLD_NEXT, "clock_gettime");
    receive_one = dlsym(RTLD_NEXT, "recvmsg");
    receive_many = dlsym(RTLD_NEXT, "recvmmsg");
}

static void shift(struct timespec *time) {
    int64_t true_ns = time->tv_sec * SECOND + time->tv_nsec;
    if (set[1] == 0 || true_ns < set[0]) return;
    true_ns += set[1];
    time->tv_sec = true_ns / SECOND;
    time->tv_nsec = true_ns % SECOND;
}

static void shift_stamps(struct msghdr *message) {
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
        struct timespec stamp;
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SO_TIMESTAMPNS) continue;
        memcpy(&stamp, CMSG_DATA(at), sizeof stamp);
        shift(&stamp);
        memcpy(CMSG_DATA(at), &stamp, sizeof stamp);
    }
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!read_clock) read_clock = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = read_clock(clock, time);
    if (!failed && set && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) shift(time);
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

ssize_t recvmsg(int socket, struct msghdr *message, int flags) {
    ssize_t length = receive_one(socket, message, flags);
    if (length >= 0) shift_stamps(message);
    return length;
}

int recvmmsg(int socket, struct mmsghdr *messages, unsigned int room, int flags,
             struct timespec *timeout) {
    int count = receive_many(socket, messages, room, flags, timeout);
    for (int i = 0; i < count; i++) shift_stamps(&messages[i].msg_hdr);
    return count;
}
