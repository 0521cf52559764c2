#include "net/relay/tcp.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <cerrno>

namespace fastdock::net::relay {
namespace {

constexpr std::size_t kPipeSize = 256 * 1024;
constexpr int kKeepAlive = 30;  // seconds without a word until the other side is asked, and between questions

bool make_pipe(Fd& out, Fd& in) {
  int ends[2];
  if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return false;
  out.reset(ends[0]);
  in.reset(ends[1]);
  ::fcntl(ends[1], F_SETPIPE_SZ, kPipeSize);  // as far as pipe-user-pages-soft allows
  return true;
}

// A container that has gone, or a client that was switched off, says nothing: its connection ends all the
// same.
void notice_death(int socket) {
  int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  for (int option : {TCP_KEEPIDLE, TCP_KEEPINTVL})
    ::setsockopt(socket, IPPROTO_TCP, option, &kKeepAlive, sizeof kKeepAlive);
}

}  // namespace

TcpConnection::~TcpConnection() {
  for (const Fd* socket : {&client_, &server_})
    if (*socket) loop_.forget(socket->get());
}

bool TcpConnection::open(const Address& target, std::function<void()> done) {
  done_ = std::move(done);
  server_.reset(::socket(target.bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!server_ || !make_pipe(up_.pipe_out, up_.pipe_in) || !make_pipe(down_.pipe_out, down_.pipe_in)) {
    give_up();
    return false;
  }
  for (const Fd* socket : {&client_, &server_}) notice_death(socket->get());
  up_.from = down_.to = client_.get();
  up_.to = down_.from = server_.get();
  if (::connect(server_.get(), target.get(), target.size) != 0 && errno != EINPROGRESS) {
    give_up();
    return false;
  }
  return static_cast<bool>(
      loop_.watch(server_.get(), EPOLLOUT, [this](std::uint32_t) { finish_connecting(); }));
}

// The container refuses: so does the host's port, instead of closing in order.
void TcpConnection::give_up() {
  linger reset{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

void TcpConnection::finish_connecting() {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(server_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
    give_up();
    return end();
  }
  watch();
}

// False: the connection is broken.
bool TcpConnection::move(Direction& direction) {
  while (!direction.closed) {
    if (direction.waiting == 0 && !direction.ended) {
      ssize_t count = ::splice(direction.from, nullptr, direction.pipe_in.get(), nullptr, kPipeSize,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (count < 0 && errno == EAGAIN) return true;
      if (count < 0) return false;
      direction.ended = count == 0;
      direction.waiting = static_cast<std::size_t>(count);
    }
    if (direction.waiting > 0) {
      ssize_t count = ::splice(direction.pipe_out.get(), nullptr, direction.to, nullptr, direction.waiting,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (count < 0 && errno == EAGAIN) return true;
      if (count <= 0) return false;
      direction.waiting -= static_cast<std::size_t>(count);
    } else if (direction.ended) {
      direction.closed = true;
      ::shutdown(direction.to, SHUT_WR);
    }
  }
  return true;
}

void TcpConnection::go_on() {
  if (over_) return;
  if (!move(up_) || !move(down_)) {
    give_up();
    return end();
  }
  if (up_.closed && down_.closed) return end();
  watch();
}

void TcpConnection::end() {
  over_ = true;
  for (const Fd* socket : {&client_, &server_}) loop_.forget(socket->get());
  done_();
}

void TcpConnection::watch() {
  watch(client_.get(), up_, down_);
  watch(server_.get(), down_, up_);
}

void TcpConnection::watch(int socket, const Direction& reads, const Direction& writes) {
  if (over_) return;
  std::uint32_t events = 0;
  if (reads.waiting == 0 && !reads.ended) events |= EPOLLIN;
  if (writes.waiting > 0) events |= EPOLLOUT;
  // epoll reports a socket that is closed on both sides even if nothing is asked of it.
  if (events == 0) return loop_.forget(socket);
  if (!loop_.watch(socket, events, [this](std::uint32_t) { go_on(); })) end();
}

}  // namespace fastdock::net::relay
