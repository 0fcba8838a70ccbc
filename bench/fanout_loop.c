/* What the kernel charges for a packet: one datagram to N addresses by sendmmsg(2), in C.
 *
 *     fanout_loop DESTINATIONS BYTES CHUNK FRAMES FIRST_ADDRESS PORT
 *
 * Sockets, addresses and chunks are as the sender's. Each line of standard input is answered by the
 * nanoseconds of processor time that FRAMES datagrams to everybody have taken.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static int open_socket(int bytes)
{
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    int expedited = 46 << 2, buffer = 1 << 20, discover = 3; /* IP_PMTUDISC_PROBE */
    struct sockaddr_in any = {.sin_family = AF_INET};
    setsockopt(udp, IPPROTO_IP, IP_TOS, &expedited, sizeof expedited);
    setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bytes <= 548)
        setsockopt(udp, IPPROTO_IP, 10 /* IP_MTU_DISCOVER */, &discover, sizeof discover);
    if (bind(udp, (struct sockaddr *)&any, sizeof any) != 0)
        return -1;
    return udp;
}

static long long cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int send_to_all(int udp, struct mmsghdr *messages, int count, int chunk)
{
    for (int at = 0; at < count; at += chunk) {
        int wanted = count - at < chunk ? count - at : chunk;
        if (sendmmsg(udp, messages + at, wanted, MSG_DONTWAIT) != wanted)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    int count = atoi(argv[1]), bytes = atoi(argv[2]), chunk = atoi(argv[3]);
    int frames = atoi(argv[4]), port = atoi(argv[6]);
    unsigned first = ntohl(inet_addr(argv[5]));
    static char datagram[65536];
    struct iovec vector = {datagram, bytes};
    struct sockaddr_in *names = calloc(count, sizeof *names);
    struct mmsghdr *messages = calloc(count, sizeof *messages);
    int udp = open_socket(bytes);
    if (names == NULL || messages == NULL || udp < 0)
        return 1;
    for (int i = 0; i < count; i++) {
        names[i].sin_family = AF_INET;
        names[i].sin_port = htons(port);
        names[i].sin_addr.s_addr = htonl(first + i);
        messages[i].msg_hdr.msg_name = names + i;
        messages[i].msg_hdr.msg_namelen = sizeof *names;
        messages[i].msg_hdr.msg_iov = &vector;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    char line[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        long long began_ns = cpu_ns();
        for (int frame = 0; frame < frames; frame++)
            if (send_to_all(udp, messages, count, chunk) != 0)
                return 1;
        printf("%lld\n", cpu_ns() - began_ns);
        fflush(stdout);
    }
    return 0;
}
