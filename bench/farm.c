/*
 * farm: N Modbus TCP devices for speed measurements, as cheap as a device can be.
 *
 *   farm --ports N [--delay-ms LO HI] [--seed S]
 *
 * Each device is one port of 127.0.0.1 and answers function 3 for registers within 0 .. 99 (any
 * unit id); everything else is refused. The 100 registers hold 75 values, big endian, high word
 * first (struct format ">Q52h22f"):
 *
 *   registers  0 ..  3   UINT64    UTC in nanoseconds at which this reply was made: the answer time
 *   registers  4 .. 55   52 INT16  tenths of a unit: a walk by -1, 0 or +1 per reply (1/4, 1/2, 1/4)
 *                                  that stays within 200 of its start, a start between 200 and 400
 *   registers 56 .. 99   22 FLOAT32  37.0 plus sensor noise (sum of four uniform numbers, sigma
 *                                  0.02), not rounded: the low bits are as incompressible as an ADC's
 *
 * Apart from the answer time, the values of a device depend only on --seed (1), the port's index
 * and the number of its replies so far.
 *
 * With --delay-ms a reply leaves a time after its request that is spread uniformly over LO .. HI
 * (drawn from the seed too, apart from the values); without it, at once. Each connection is
 * answered in order, one request at a time.
 *
 * First line of standard output: {"ready":true,"ports":[...]}; SIGTERM or SIGINT ends it with
 * status 0 and {"replies":TOTAL}.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    REGISTERS = 100,
    STAMP_BYTES = 8,
    INTEGERS = 52,
    FLOATS = 22,
    DEVICES_MAX = 1024,
    CONNECTIONS_MAX = 4096,
    EVENTS_MAX = 256,
    REQUEST_BYTES = 12, /* MBAP header, function, address, quantity */
    MBAP_BYTES = 6,     /* transaction, protocol, length: what the length field does not count */
    INPUT_BYTES = 16 * REQUEST_BYTES,
};

static const int64_t MS_NS = 1000000;

/* What an epoll event is about; the first member of everything that is watched. */
enum kind { STOP, TIMER, DEVICE, CONNECTION };

struct device {
    enum kind kind;
    int listener;
    uint16_t port;
    uint64_t value_random;
    uint64_t delay_random;
    int16_t start[INTEGERS];
    int16_t integer[INTEGERS];
};

/* One client. While due_ns is set, the first request in `input` waits for its time. */
struct connection {
    enum kind kind;
    bool open;
    int fd;
    struct device *device;
    int64_t due_ns;
    size_t input_bytes;
    uint8_t input[INPUT_BYTES];
};

static struct device devices[DEVICES_MAX];
static struct connection connections[CONNECTIONS_MAX];
static int connections_end; /* one past the highest slot ever used */
static int device_count;
static int64_t delay_low_ns, delay_high_ns;
static unsigned long long replies;
static int epoll_fd, timer_fd, signal_fd;
static enum kind stop = STOP, timer = TIMER;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* xorshift64*: small, seeded, good enough for noise. */
static uint32_t random_u32(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (uint32_t)((x * 0x2545F4914F6CDD1Du) >> 32);
}

static void put_u16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
}

static void put_u32(uint8_t *out, uint32_t value)
{
    put_u16(out, (uint16_t)(value >> 16));
    put_u16(out + 2, (uint16_t)value);
}

static void seed_device(struct device *device, uint64_t seed, int index)
{
    uint64_t *random = &device->value_random;
    *random = (seed * 0x9E3779B97F4A7C15u) ^ (((uint64_t)index + 1) * 0xBF58476D1CE4E5B9u);
    *random |= 1; /* the generator never leaves 0 */
    for (int i = 0; i < 8; i++)
        random_u32(random); /* neighbouring seeds drift apart */
    device->delay_random = ~*random | 1;
    for (int i = 0; i < INTEGERS; i++)
        device->start[i] = device->integer[i] = (int16_t)(200 + random_u32(random) % 201);
}

static int16_t next_integer(struct device *device, int i, uint32_t two_bits)
{
    int step = two_bits == 0 ? -1 : two_bits == 1 ? 1 : 0;
    int value = device->integer[i] + step;
    if (abs(value - device->start[i]) <= 200)
        device->integer[i] = (int16_t)value;
    return device->integer[i];
}

/* Four uniform bytes have a standard deviation of 147.8 in their sum: 0.02 / 147.8 each. */
static float next_float(struct device *device)
{
    uint32_t r = random_u32(&device->value_random), low = random_u32(&device->value_random);
    int sum = (int)((r & 0xFF) + (r >> 8 & 0xFF) + (r >> 16 & 0xFF) + (r >> 24)) - 510;
    double fraction = (double)low / 4294967296.0;
    return (float)(37.0 + ((double)sum + fraction) * (0.02 / 147.8));
}

/* Write the whole block, 200 bytes: the device's next reading. */
static void next_block(struct device *device, uint8_t *out)
{
    uint64_t stamp_ns = (uint64_t)now_ns(CLOCK_REALTIME);
    put_u32(out, (uint32_t)(stamp_ns >> 32));
    put_u32(out + 4, (uint32_t)stamp_ns);
    out += STAMP_BYTES;
    for (int i = 0; i < INTEGERS; i += 16) {
        uint32_t bits = random_u32(&device->value_random);
        for (int j = i; j < i + 16 && j < INTEGERS; j++, bits >>= 2, out += 2)
            put_u16(out, (uint16_t)next_integer(device, j, bits & 3));
    }
    for (int i = 0; i < FLOATS; i++, out += 4) {
        float value = next_float(device);
        uint32_t pattern;
        memcpy(&pattern, &value, sizeof pattern);
        put_u32(out, pattern);
    }
}

static void hang_up(struct connection *connection)
{
    close(connection->fd);
    connection->open = false;
}

static void reply(struct connection *connection)
{
    const uint8_t *request = connection->input;
    uint8_t out[9 + 2 * REGISTERS], block[2 * REGISTERS];
    unsigned address = (unsigned)(request[8] << 8 | request[9]);
    unsigned quantity = (unsigned)(request[10] << 8 | request[11]);
    size_t length;
    memcpy(out, request, 4); /* transaction and protocol */
    out[6] = request[6];
    out[7] = request[7];
    if (request[7] != 3 || quantity < 1 || address + quantity > REGISTERS) {
        out[7] |= 0x80;
        out[8] = request[7] == 3 ? 2 : 1;
        length = 9;
    } else {
        next_block(connection->device, block);
        out[8] = (uint8_t)(2 * quantity);
        memcpy(out + 9, block + (size_t)2 * address, (size_t)2 * quantity);
        length = 9 + (size_t)2 * quantity;
        replies++;
    }
    put_u16(out + 4, (uint16_t)(length - MBAP_BYTES));
    connection->due_ns = 0;
    connection->input_bytes -= REQUEST_BYTES;
    memmove(connection->input, connection->input + REQUEST_BYTES, connection->input_bytes);
    /* The client that does not read its replies is not worth waiting for. */
    if (send(connection->fd, out, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length)
        hang_up(connection);
}

static int64_t drawn_delay_ns(struct device *device)
{
    uint64_t span = (uint64_t)(delay_high_ns - delay_low_ns) + 1;
    return delay_low_ns + (int64_t)(((uint64_t)random_u32(&device->delay_random) * span) >> 32);
}

/* Answer what has arrived, or note when its answer is due. */
static void work(struct connection *connection)
{
    while (connection->open && !connection->due_ns && connection->input_bytes >= REQUEST_BYTES) {
        const uint8_t *request = connection->input;
        if (request[2] || request[3] || request[4] || request[5] != REQUEST_BYTES - MBAP_BYTES)
            hang_up(connection); /* no request of this length is answered here */
        else if (delay_high_ns == 0)
            reply(connection);
        else
            connection->due_ns = now_ns(CLOCK_MONOTONIC) + drawn_delay_ns(connection->device);
    }
}

static void receive(struct connection *connection)
{
    size_t room = INPUT_BYTES - connection->input_bytes;
    ssize_t got = recv(connection->fd, connection->input + connection->input_bytes, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        hang_up(connection); /* gone, or more requests in flight than any device takes */
        return;
    }
    connection->input_bytes += (size_t)got;
    work(connection);
}

static void answer_due(void)
{
    uint64_t expirations;
    if (read(timer_fd, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
        die("timerfd");
    int64_t now = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < connections_end; i++) {
        struct connection *connection = &connections[i];
        if (connection->open && connection->due_ns && connection->due_ns <= now) {
            reply(connection);
            work(connection);
        }
    }
}

static void arm_timer(void)
{
    int64_t earliest = 0;
    for (int i = 0; i < connections_end; i++) {
        const struct connection *connection = &connections[i];
        if (connection->open && connection->due_ns && (!earliest || connection->due_ns < earliest))
            earliest = connection->due_ns;
    }
    struct itimerspec at = {.it_value = {earliest / 1000000000, earliest % 1000000000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void watch(int fd, enum kind *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

static struct connection *free_slot(void)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (!connections[i].open) {
            if (i >= connections_end)
                connections_end = i + 1;
            return &connections[i];
        }
    return NULL;
}

static void welcome(struct device *device)
{
    int fd = accept(device->listener, NULL, NULL);
    if (fd < 0)
        return;
    struct connection *connection = free_slot();
    int on = 1;
    if (connection == NULL || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        close(fd);
        return;
    }
    *connection = (struct connection){.kind = CONNECTION, .open = true, .fd = fd, .device = device};
    watch(fd, &connection->kind);
}

static void listen_on(struct device *device)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    device->kind = DEVICE;
    device->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (device->listener < 0 || bind(device->listener, (struct sockaddr *)&address, size) != 0 ||
        listen(device->listener, 16) != 0 ||
        getsockname(device->listener, (struct sockaddr *)&address, &size) != 0)
        die("listen");
    device->port = ntohs(address.sin_port);
    watch(device->listener, &device->kind);
}

static void open_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    if (signal_fd < 0)
        die("signalfd");
    watch(signal_fd, &stop);
}

/* Handle one event; false when it says stop. */
static bool handle(enum kind *what)
{
    switch (*what) {
    case STOP:
        return false;
    case TIMER:
        answer_due();
        break;
    case DEVICE:
        welcome((struct device *)what);
        break;
    case CONNECTION:
        if (((struct connection *)what)->open)
            receive((struct connection *)what);
    }
    return true;
}

static void serve(void)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++)
            if (!handle(events[i].data.ptr))
                return;
        if (delay_high_ns)
            arm_timer();
    }
}

static void usage(void)
{
    fprintf(stderr, "usage: farm --ports N [--delay-ms LO HI] [--seed S]\n");
    exit(2);
}

static uint64_t parse(int argc, char **argv)
{
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--ports") && i + 1 < argc) {
            device_count = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--delay-ms") && i + 2 < argc) {
            delay_low_ns = (int64_t)(atof(argv[++i]) * (double)MS_NS);
            delay_high_ns = (int64_t)(atof(argv[++i]) * (double)MS_NS);
        } else {
            usage();
        }
    }
    if (device_count < 1 || device_count > DEVICES_MAX || delay_low_ns < 0 || delay_high_ns < delay_low_ns)
        usage();
    return seed;
}

int main(int argc, char **argv)
{
    uint64_t seed = parse(argc, argv);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_fd < 0 || timer_fd < 0)
        die("epoll, timerfd");
    open_signals();
    watch(timer_fd, &timer);
    printf("{\"ready\":true,\"ports\":[");
    for (int i = 0; i < device_count; i++) {
        seed_device(&devices[i], seed, i);
        listen_on(&devices[i]);
        printf("%s%u", i ? "," : "", devices[i].port);
    }
    printf("]}\n");
    fflush(stdout);
    serve();
    printf("{\"replies\":%llu}\n", replies);
    return 0;
}
