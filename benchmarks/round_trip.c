/* Round trips one at a time, each timed with a nanosecond clock.
 *
 *   round_trip udp ADDRESS PORT WARMUP COUNT     against `round_trip echo-udp ADDRESS PORT`, which prints "ready" when bound
 *   round_trip udp ADDRESS PORT WARMUP COUNT INTERVAL     not a closed loop: a request every INTERVAL microseconds
 *   round_trip tcp ADDRESS PORT WARMUP COUNT     against `round_trip echo-tcp ADDRESS PORT`, one connection, TCP_NODELAY
 *   round_trip icmp ADDRESS 0 WARMUP COUNT       against the far kernel, as ping does
 *
 * A closed loop: the next request leaves when the answer is there, so CPUs do not fall asleep in between and no queue
 * builds up. Both sides block in ordinary system calls. The first WARMUP round trips are not counted. Prints one line of
 * JSON, times in nanoseconds; an answer that takes longer than a second counts as lost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <linux/icmp.h>

enum protocol { UDP, TCP, ICMP };
enum { PAYLOAD = 56 }; /* what ping sends; the sequence number stands in front */

struct request {
    struct icmphdr icmp; /* not sent with UDP */
    uint32_t sequence;
    uint8_t padding[PAYLOAD - sizeof(uint32_t)];
} __attribute__((packed));

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "round_trip: %s: %s\n", what, strerror(errno));
    exit(1);
}

static _Noreturn void wrong(const char *what)
{
    fprintf(stderr, "round_trip: %s\n", what);
    exit(2);
}

static uint16_t checksum(const void *data, size_t length)
{
    const uint8_t *at = data;
    uint32_t sum = 0;

    for (; length > 1; length -= 2, at += 2)
        sum += (uint32_t)at[0] << 8 | at[1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static _Noreturn void run_echo(int sock)
{
    uint8_t data[2048];
    struct sockaddr_in from;

    puts("ready");
    fflush(stdout);
    for (;;) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(sock, data, sizeof data, 0, (struct sockaddr *)&from, &len);
        if (n >= 0)
            n = sendto(sock, data, (size_t)n, 0, (const struct sockaddr *)&from, len);
        if (n < 0 && errno != EINTR && errno != ENOBUFS)
            die("echo");
    }
}

static void send_at_once(int sock)
{
    int on = 1;

    if (setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        die("TCP_NODELAY");
}

/* One connection; ends with it. */
static int run_echo_tcp(int listener)
{
    uint8_t data[PAYLOAD];
    ssize_t n;
    int sock;

    if (listen(listener, 1) < 0)
        die("listen");
    puts("ready");
    fflush(stdout);
    if ((sock = accept(listener, NULL, NULL)) < 0)
        die("accept");
    send_at_once(sock);
    while ((n = recv(sock, data, sizeof data, MSG_WAITALL)) == (ssize_t)sizeof data)
        if (send(sock, data, sizeof data, MSG_NOSIGNAL) < 0)
            die("send");
    if (n < 0 && errno != ECONNRESET)
        die("recv");
    return 0;
}

/* Sends request number `sequence` and waits for its answer; nanoseconds, or 0 when none came within a second. */
static uint64_t one_round_trip(int sock, enum protocol protocol, struct request *request, uint32_t sequence)
{
    uint8_t answer[2048];
    int icmp = protocol == ICMP;
    const void *from = icmp ? (const void *)request : (const void *)&request->sequence;
    size_t length = icmp ? sizeof *request : (size_t)PAYLOAD;
    uint64_t start;

    request->sequence = sequence;
    if (icmp) {
        request->icmp.un.echo.sequence = (uint16_t)sequence;
        request->icmp.checksum = 0;
        request->icmp.checksum = checksum(request, sizeof *request);
    }
    start = now_ns();
    if (send(sock, from, length, 0) < 0 && errno != ENOBUFS)
        die("send");
    for (;;) {
        /* A stream has no ends of messages. */
        ssize_t n = protocol == TCP ? recv(sock, answer, PAYLOAD, MSG_WAITALL) : recv(sock, answer, sizeof answer, 0);
        uint64_t end = now_ns();
        size_t skip = 0;
        if (protocol == TCP && n >= 0 && n < PAYLOAD)
            wrong("the connection broke, or an answer took longer than a second");
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                die("recv");
            return 0;
        }
        if (icmp) { /* a raw socket sees the IP header, and everybody's answers */
            skip = ((const struct iphdr *)answer)->ihl * 4u;
            if ((size_t)n < skip + sizeof *request ||
                ((const struct icmphdr *)(answer + skip))->un.echo.id != request->icmp.un.echo.id)
                continue;
            skip += sizeof(struct icmphdr);
        }
        if ((size_t)n >= skip + sizeof sequence && !memcmp(answer + skip, &sequence, sizeof sequence))
            return end > start ? end - start : 1;
        if (end - start > 1000000000u)
            return 0; /* only late answers to earlier requests */
    }
}

static int run_client(int sock, enum protocol protocol, uint32_t warmup, uint32_t count, uint64_t interval_ns)
{
    struct request request = {.icmp = {.type = ICMP_ECHO}};
    uint64_t *times = calloc(count, sizeof *times);
    uint32_t measured = 0, lost = 0;

    if (!times)
        die("calloc");
    request.icmp.un.echo.id = (uint16_t)getpid();
    for (uint32_t i = 0; i < warmup + count; i++) {
        uint64_t due = now_ns() + interval_ns;
        uint64_t took = one_round_trip(sock, protocol, &request, i);
        if (interval_ns)
            sleep_until(due);
        if (!took)
            lost++;
        else if (i >= warmup)
            times[measured++] = took;
    }
    if (!measured)
        wrong("no answer came back");
    qsort(times, measured, sizeof *times, by_value);
    printf("{\"lost\": %" PRIu32 ", \"p50\": %" PRIu64 ", \"p99\": %" PRIu64 "}\n", lost, times[measured / 2],
           times[(uint64_t)measured * 99 / 100]);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct timeval second = {.tv_sec = 1};
    int on = 1;
    struct icmp_filter only_replies = {.data = ~(1u << ICMP_ECHOREPLY)};
    enum protocol protocol;
    const char *name;
    int echo, sock;

    if (argc < 4)
        wrong("round_trip echo-udp|echo-tcp ADDRESS PORT | udp|tcp|icmp ADDRESS PORT WARMUP COUNT [INTERVAL]");
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would stop an echo server whose benchmark was killed */
    echo = !strncmp(argv[1], "echo-", 5);
    name = argv[1] + (echo ? 5 : 0);
    if (!strcmp(name, "udp"))
        protocol = UDP;
    else if (!strcmp(name, "tcp"))
        protocol = TCP;
    else if (!strcmp(name, "icmp") && !echo)
        protocol = ICMP;
    else
        wrong("echo-udp, echo-tcp, udp, tcp or icmp");
    if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1)
        wrong("not an IPv4 address");
    address.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    if (protocol == ICMP)
        sock = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    else
        sock = socket(AF_INET, protocol == TCP ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (sock < 0)
        die("socket");
    if (echo) {
        if (setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) /* the last round's connection lingers */
            die("SO_REUSEADDR");
        if (bind(sock, (const struct sockaddr *)&address, sizeof address) < 0)
            die("bind");
        if (protocol == TCP)
            return run_echo_tcp(sock);
        run_echo(sock);
    }
    if (argc != 6 && argc != 7)
        wrong("round_trip udp|tcp|icmp ADDRESS PORT WARMUP COUNT [INTERVAL]");
    if (protocol == ICMP && setsockopt(sock, SOL_RAW, ICMP_FILTER, &only_replies, sizeof only_replies) < 0)
        die("ICMP_FILTER");
    if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second) < 0)
        die("SO_RCVTIMEO");
    if (connect(sock, (const struct sockaddr *)&address, sizeof address) < 0)
        die("connect");
    if (protocol == TCP)
        send_at_once(sock);
    return run_client(sock, protocol, (uint32_t)strtoul(argv[4], NULL, 10), (uint32_t)strtoul(argv[5], NULL, 10),
                      argc == 7 ? strtoull(argv[6], NULL, 10) * 1000 : 0);
}
