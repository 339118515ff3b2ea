/* One UDP flow as fast as it goes or at a given rate, and an ordinary receiver that counts what arrives.
 *
 *   udp_flood recv ADDRESS PORT RCVBUF START END      prints "ready" when bound, later one line of JSON
 *   udp_flood send ADDRESS PORT PAYLOAD START END     prints one line of JSON
 *   udp_flood pace ADDRESS PORT PAYLOAD START END RATE    the same at RATE packets per second, within START and END only
 *
 * START and END are CLOCK_MONOTONIC nanoseconds, the same clock in every network namespace, so both sides count the same
 * window. The sender starts at once: what comes before START is warm-up. The receiver goes on after END until nothing
 * came for 200 ms, so that `total` of both sides explains every packet. RCVBUF in bytes, 0 for the system's default.
 *
 * "Ordinary" means a plain datagram socket read by recvmmsg: no UDP_GRO, no busy polling, no AF_PACKET. The sender takes
 * 64 packets per system call, so that it is the path under test that is saturated and not the generator.
 *
 * A paced sender sleeps: every 100 us it sends what is due by the clock, at most 64 packets, so that one that overslept
 * catches up over several ticks instead of in one burst. It does not spin, which would take a CPU from the path under
 * test. It can offer 640 000 packets per second; `total` says what it did offer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include <linux/sock_diag.h> /* SK_MEMINFO_* */

enum { BATCH = 64, PAYLOAD_MAX = 9000, SILENCE_MS = 200, TICK_NS = 100000 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "udp_flood: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void wrong(const char *what)
{
    fprintf(stderr, "udp_flood: %s\n", what);
    exit(2);
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    int error;

    while ((error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) == EINTR)
        ;
    errno = error;
    if (error)
        die("clock_nanosleep");
}

/* `rate` in packets per second, 0 for as fast as it goes. */
static int run_send(int sock, const struct sockaddr_in *to, size_t payload, uint64_t start, uint64_t end, uint64_t rate)
{
    static char data[PAYLOAD_MAX];
    struct iovec iov = {.iov_base = data, .iov_len = payload};
    struct mmsghdr msgs[BATCH];
    uint64_t window = 0, total = 0, refused = 0, now;

    if (connect(sock, (const struct sockaddr *)to, sizeof *to) < 0)
        die("connect");
    memset(msgs, 0, sizeof msgs);
    for (int i = 0; i < BATCH; i++) {
        msgs[i].msg_hdr.msg_iov = &iov;
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    if (rate) {
        prctl(PR_SET_TIMERSLACK, 1L); /* the default of 50 us is half a tick */
        sleep_until(start);
    }
    for (uint64_t tick = start; (now = now_ns()) < end;) {
        unsigned int batch = BATCH;
        int n;
        if (rate) {
            uint64_t due = (uint64_t)((double)(now - start) * (double)rate / 1e9);
            if (due - total < batch)
                batch = (unsigned int)(due - total);
        }
        n = batch ? sendmmsg(sock, msgs, batch, 0) : 0;
        if (n < 0) {
            if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
                die("sendmmsg");
            refused++;
            continue;
        }
        total += (uint64_t)n;
        if (now >= start)
            window += (uint64_t)n;
        if (rate) {
            tick = tick + TICK_NS > now ? tick + TICK_NS : now - now % TICK_NS + TICK_NS;
            sleep_until(tick < end ? tick : end);
        }
    }
    printf("{\"window\": %" PRIu64 ", \"total\": %" PRIu64 ", \"refused\": %" PRIu64 "}\n", window, total, refused);
    return 0;
}

static int run_recv(int sock, const struct sockaddr_in *at, int rcvbuf, uint64_t start, uint64_t end)
{
    static char data[BATCH][PAYLOAD_MAX];
    struct iovec iovs[BATCH];
    struct mmsghdr msgs[BATCH];
    struct timeval silence = {.tv_usec = SILENCE_MS * 1000};
    uint64_t window = 0, total = 0;
    uint32_t mem[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof mem;

    /* FORCE: beyond net.core.rmem_max, which root may. */
    if (rcvbuf && setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof rcvbuf) < 0)
        die("SO_RCVBUFFORCE");
    if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence) < 0)
        die("SO_RCVTIMEO");
    if (bind(sock, (const struct sockaddr *)at, sizeof *at) < 0)
        die("bind");
    memset(msgs, 0, sizeof msgs);
    for (int i = 0; i < BATCH; i++) {
        iovs[i].iov_base = data[i];
        iovs[i].iov_len = PAYLOAD_MAX;
        msgs[i].msg_hdr.msg_iov = &iovs[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int n = recvmmsg(sock, msgs, BATCH, MSG_WAITFORONE, NULL);
        uint64_t now = now_ns();
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                die("recvmmsg");
            if (now >= end)
                break;
            continue;
        }
        total += (uint64_t)n;
        if (now >= start && now < end)
            window += (uint64_t)n;
    }
    if (getsockopt(sock, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0)
        die("SO_MEMINFO");
    printf("{\"window\": %" PRIu64 ", \"total\": %" PRIu64 ", \"socket_drops\": %" PRIu32 "}\n", window, total,
           mem[SK_MEMINFO_DROPS]);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    uint64_t start, end, rate = 0;
    long size;
    int sock;

    if (argc != 7 && argc != 8)
        wrong("udp_flood recv ADDRESS PORT RCVBUF START END | send ADDRESS PORT PAYLOAD START END | pace ... RATE");
    if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1)
        wrong("not an IPv4 address");
    address.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    size = strtol(argv[4], NULL, 10);
    start = strtoull(argv[5], NULL, 10);
    end = strtoull(argv[6], NULL, 10);
    if (now_ns() >= start)
        wrong("started after the window opened");
    if ((sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        die("socket");
    if (!strcmp(argv[1], "recv"))
        return run_recv(sock, &address, (int)size, start, end);
    if (!strcmp(argv[1], "pace") && argc == 8)
        rate = strtoull(argv[7], NULL, 10);
    else if (strcmp(argv[1], "send"))
        wrong("recv, send or pace, which takes a RATE");
    if (size < 0 || size > PAYLOAD_MAX)
        wrong("payload out of range");
    return run_send(sock, &address, (size_t)size, start, end, rate);
}
