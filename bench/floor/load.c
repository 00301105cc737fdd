#define _GNU_SOURCE
// Closed-loop load: each connection sends the request again as soon as its answer is whole. One thread, epoll.
// Usage: load PORT CONNECTIONS SECONDS < REQUEST. Prints: calls per second, p50 and p99 in microseconds, wrong answers.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 65536, MOST = 1024, SAMPLES = 1 << 24 };
struct wire { int socket; size_t have; double begun; char data[ROOM]; };
static struct wire wires[MOST];
static float *samples;
static size_t taken, wrong;
static char request[ROOM];
static size_t length;

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec + at.tv_nsec / 1e9;
}

static void ask(struct wire *one) {
  one->have = 0;
  one->begun = now();
  if (write(one->socket, request, length) != (ssize_t)length) { perror("write"); exit(1); }
}

static int whole(struct wire *one) { // 1 if the answer is whole
  one->data[one->have] = 0;
  char *end = memmem(one->data, one->have, "\r\n\r\n", 4);
  if (!end) return 0;
  char *found = strcasestr(one->data, "content-length:");
  if (!found || found > end) { // a small answer in chunks is whole with the last one
    char *chunked = strcasestr(one->data, "transfer-encoding: chunked");
    if (!chunked || chunked > end) { fprintf(stderr, "no length: %.300s\n", one->data); exit(1); }
    return !memcmp(one->data + one->have - 5, "0\r\n\r\n", 5);
  }
  return one->have >= (size_t)(end + 4 - one->data) + strtoul(found + 15, NULL, 10);
}

static int order(const void *a, const void *b) {
  float one = *(const float *)a, other = *(const float *)b;
  return (one > other) - (one < other);
}

int main(int count, char **words) {
  if (count != 4) return fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS < REQUEST\n"), 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL); // it ends with whoever started it
  int one = 1, many = atoi(words[2]), poll = epoll_create1(0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  length = fread(request, 1, ROOM, stdin);
  samples = malloc(SAMPLES * sizeof *samples);
  if (many < 1 || many > MOST || !samples) return 2;
  for (int index = 0; index < many; index++) {
    struct wire *wire = &wires[index];
    wire->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(wire->socket, (struct sockaddr *)&at, sizeof at)) return perror("connect"), 1;
    setsockopt(wire->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = wire};
    epoll_ctl(poll, EPOLL_CTL_ADD, wire->socket, &event);
    ask(wire);
  }
  double begin = now(), end = begin + atof(words[3]), moment = begin;
  while (moment < end) {
    struct epoll_event all[256];
    int found = epoll_wait(poll, all, 256, 1000);
    for (int index = 0; index < found; index++) {
      struct wire *wire = all[index].data.ptr;
      ssize_t got = read(wire->socket, wire->data + wire->have, ROOM - 1 - wire->have);
      if (got <= 0) return fprintf(stderr, "a connection was closed\n"), 1;
      wire->have += got;
      if (!whole(wire)) continue;
      if (strncmp(wire->data, "HTTP/1.1 200", 12)) {
        if (!wrong++) fprintf(stderr, "%.600s\n", wire->data);
      }
      if (taken < SAMPLES) samples[taken++] = (now() - wire->begun) * 1e6;
      ask(wire);
    }
    moment = now();
  }
  if (!taken) return fprintf(stderr, "nothing was answered\n"), 1;
  qsort(samples, taken, sizeof *samples, order);
  printf("{\"rate\": %.1f, \"p50\": %.1f, \"p99\": %.1f, \"wrong\": %zu}\n", taken / (moment - begin),
         samples[taken / 2], samples[taken * 99 / 100], wrong);
  return wrong > 0;
}
