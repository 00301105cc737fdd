#define _GNU_SOURCE
// The floor of a warm call: one thread, epoll, HTTP/1.1 with Content-Length; answers a request's body with itself.
// Usage: echo PORT. It checks nothing that a server for strangers must check: it is here to be fast.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 65536, MOST = 4096 };
static char *held[MOST];
static size_t have[MOST];

static size_t answer(int peer, char *data, size_t size) { // answers what is whole, returns how much that was
  size_t done = 0;
  char *end;
  while ((end = memmem(data + done, size - done, "\r\n\r\n", 4))) {
    *end = 0;
    char *found = strcasestr(data + done, "content-length:");
    size_t length = found ? strtoul(found + 15, NULL, 10) : 0, head = end + 4 - (data + done);
    *end = '\r';
    if (size - done < head + length) break;
    char out[ROOM];
    int wrote = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length);
    memcpy(out + wrote, end + 4, length);
    if (write(peer, out, wrote + length) < 0) return size;
    done += head + length;
  }
  return done;
}

int main(int count, char **words) {
  int one = 1, server = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(words[1]) : 0), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(server, (struct sockaddr *)&at, sizeof at) || listen(server, 512)) return perror("listen"), 1;
  struct epoll_event all[256], first = {.events = EPOLLIN, .data.fd = server};
  epoll_ctl(poll, EPOLL_CTL_ADD, server, &first);
  for (;;) {
    int found = epoll_wait(poll, all, 256, -1);
    for (int at = 0; at < found; at++) {
      int peer = all[at].data.fd;
      if (peer == server) {
        peer = accept4(server, NULL, NULL, SOCK_NONBLOCK);
        if (peer < 0 || peer >= MOST) continue;
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (!held[peer]) held[peer] = malloc(ROOM);
        have[peer] = 0;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = peer};
        epoll_ctl(poll, EPOLL_CTL_ADD, peer, &event);
        continue;
      }
      ssize_t got = read(peer, held[peer] + have[peer], ROOM / 2 - have[peer]);
      if (got <= 0) { close(peer); continue; }
      have[peer] += got;
      size_t done = answer(peer, held[peer], have[peer]);
      memmove(held[peer], held[peer] + done, have[peer] -= done);
    }
  }
}
