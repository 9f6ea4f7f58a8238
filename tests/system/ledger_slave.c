/*
 * ledger_slave: Modbus slaves, TCP or RTU, that keep a ledger of every answer, on libmodbus.
 *
 * The protocol stack is Debian's libmodbus, which shares nothing with the agent under test. Before
 * a reply leaves, its record is written to the ledger; so what an agent claims to have read can be
 * compared with what was answered, even after the agent was killed.
 *
 * --ports: one process serves COUNT ports of 127.0.0.1; the port index (0, 1, ...) stands for one
 * device. --serial: one process is one unit on an RTU line; its unit id stands for the port index.
 *
 * Registers 0 .. N-1 (N = --registers) are readable: holding registers with function 3, and input
 * registers, which hold the complement of each bit of them, with function 4. Each read of exactly
 * all N registers is reply number k of its port; with --every-read so is each read of any of them.
 * k starts at --first (1) and lives as long as the process. The holding registers are a pure
 * function of (port index, k), big endian, high word first:
 *
 *   F = (N - 4) / 4 floats, I = N - 4 - 2F integers; N = 100: 1 + 48 + 24 = 73 values
 *   registers 0 .. 3            UINT64   k
 *   registers 4 .. 4+I-1        INT16    integer(i),   i = 0 .. I-1
 *   registers 4+I ..            FLOAT32  pattern(j),   j = 0 .. F-1, byte order ABCD
 *
 * with all arithmetic modulo 2^64:
 *
 *   s = k * 0x9E3779B97F4A7C15 + (port + 1) * 0xBF58476D1CE4E5B9
 *   s = (s ^ (s >> 30)) * 0xBF58476D1CE4E5B9
 *   s = (s ^ (s >> 27)) * 0x94D049BB133111EB;   s = s ^ (s >> 31)
 *
 *   integer(i)  (k + i) % 61 == 0:  EXTREMES[(k / 61) % 4]
 *               else: low 16 bits of (s >> (i % 48)) + i * 40503
 *   pattern(j)  (k + j) % 37 == 0:  SPECIALS[(k / 37) % 12]
 *               else j even: a plausible reading: ((low 16 bits of s >> j) - 20000) / 100,
 *               rounded to the nearest binary32
 *               else j odd: any bit pattern: the high 32 bits of s * (2j + 1); one in 256 of these
 *               is a NaN or an infinity, one in 256 denormal or zero
 *
 * Holding registers 1000 .. 1003 never change: "LEDGER" as text and the port index.
 *
 * Every request, whatever it asks, leaves one ledger record of 32 bytes, little endian:
 *
 *   u16 port index   u16 address   u8 function   u8 counted   u16 registers asked
 *   u64 k            u64 CLOCK_REALTIME ns      u64 CLOCK_BOOTTIME ns
 *
 * Address and registers are 0 if the function is no read. counted = 1: reply number k. counted = 0:
 * anything else; k is the number of the port's last counted reply (first - 1 before it), whose
 * registers are what a partial read sees. Functions other than 3 and 4 are refused with exception 1
 * and change nothing.
 *
 * A record means "about to be answered": a reply to a client that has just died has one too.
 * Requests to other units of an RTU line leave none.
 *
 * On the first line of standard output: {"ready":true,"ports":[...],"registers":N}, where an RTU
 * unit has no ports.
 * SIGTERM or SIGINT ends it with status 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <modbus.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    COUNTER_REGISTERS = 4,
    RTU_CRC_BYTES = 2,
    REGISTERS_MAX = MODBUS_MAX_READ_REGISTERS,
    IDENTITY_ADDRESS = 1000,
    IDENTITY_REGISTERS = 4,
    PORTS_MAX = 256,
    EVENTS_MAX = 64,
    UNIT_MAX = 247,
    FUNCTION_READ_HOLDING = 3,
    FUNCTION_READ_INPUT = 4,
    BAUD = 115200,
    SILENCE_US = 5000,
    NEIGHBOUR_REPLY_US = 10000,
};

static const int16_t EXTREMES[4] = {INT16_MIN, INT16_MAX, 0, -1};

static const uint32_t SPECIALS[12] = {
    0x7FC00000, /* quiet NaN */
    0x80000000, /* -0.0 */
    0x00000001, /* smallest denormal */
    0x7F800000, /* +infinity */
    0x007FFFFF, /* largest denormal */
    0xFF800000, /* -infinity */
    0x00800000, /* smallest normal */
    0x7F7FFFFF, /* largest finite */
    0x7F800001, /* signalling NaN */
    0x80000001, /* largest negative denormal */
    0xFF7FFFFF, /* lowest finite */
    0xFFFFFFFF, /* NaN, all bits set */
};

struct port {
    modbus_t *context;
    modbus_mapping_t *mapping;
    modbus_mapping_t *identity;
    int listener;
    uint16_t number;
    uint64_t replies;
};

struct record {
    uint16_t port_index;
    uint16_t address;
    uint8_t function;
    uint8_t counted;
    uint16_t registers;
    uint64_t k;
    uint64_t realtime_ns;
    uint64_t boottime_ns;
};
_Static_assert(sizeof(struct record) == 32, "a ledger record has 32 bytes without padding");

struct options {
    int base;
    int count;
    int registers;
    int unit;
    bool every_read;
    uint64_t first;
    const char *serial;
    const char *ledger;
};

static struct port ports[PORTS_MAX];
static bool every_read;
static int ledger_fd;

static void die(const char *what)
{
    fprintf(stderr, "ledger_slave: %s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static uint64_t mixed(uint32_t port_index, uint64_t k)
{
    uint64_t s = k * 0x9E3779B97F4A7C15u + ((uint64_t)port_index + 1) * 0xBF58476D1CE4E5B9u;
    s = (s ^ (s >> 30)) * 0xBF58476D1CE4E5B9u;
    s = (s ^ (s >> 27)) * 0x94D049BB133111EBu;
    return s ^ (s >> 31);
}

static uint16_t integer(uint64_t s, uint64_t k, unsigned i)
{
    if ((k + i) % 61 == 0)
        return (uint16_t)EXTREMES[(k / 61) % 4];
    return (uint16_t)((s >> (i % 48)) + (uint64_t)i * 40503u);
}

static uint32_t pattern(uint64_t s, uint64_t k, unsigned j)
{
    if ((k + j) % 37 == 0)
        return SPECIALS[(k / 37) % 12];
    if (j % 2 == 1)
        return (uint32_t)((s * (2u * j + 1u)) >> 32);
    float reading = (float)((double)((int)((s >> j) & 0xFFFF) - 20000) / 100.0);
    uint32_t bits;
    memcpy(&bits, &reading, sizeof bits);
    return bits;
}

static void fill(uint16_t *registers, int count, uint32_t port_index, uint64_t k)
{
    unsigned floats = (unsigned)(count - COUNTER_REGISTERS) / 4;
    unsigned integers = (unsigned)(count - COUNTER_REGISTERS) - 2 * floats;
    uint64_t s = mixed(port_index, k);
    for (int shift = 48; shift >= 0; shift -= 16)
        *registers++ = (uint16_t)(k >> shift);
    for (unsigned i = 0; i < integers; i++)
        *registers++ = integer(s, k, i);
    for (unsigned j = 0; j < floats; j++) {
        uint32_t bits = pattern(s, k, j);
        *registers++ = (uint16_t)(bits >> 16);
        *registers++ = (uint16_t)bits;
    }
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        die("clock_gettime");
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void enter(struct record *record)
{
    record->realtime_ns = now_ns(CLOCK_REALTIME);
    record->boottime_ns = now_ns(CLOCK_BOOTTIME);
    /* Without its record a reply must not leave: the ledger is the witness. */
    if (write(ledger_fd, record, sizeof *record) != (ssize_t)sizeof *record)
        die("ledger");
}

static uint16_t word(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static bool is_counted(const struct record *record, int registers)
{
    if (every_read)
        return record->registers >= 1 && record->address + record->registers <= registers;
    return record->address == 0 && record->registers == registers;
}

static void renew(struct port *port, uint32_t device)
{
    modbus_mapping_t *mapping = port->mapping;
    fill(mapping->tab_registers, mapping->nb_registers, device, ++port->replies);
    for (int i = 0; i < mapping->nb_registers; i++)
        mapping->tab_input_registers[i] = (uint16_t)~mapping->tab_registers[i];
}

/* Write down one request to a device, then answer it; false when the client is gone. */
static bool answer(struct port *port, uint32_t device, const uint8_t *request, int length)
{
    int header = modbus_get_header_length(port->context);
    int end = length - (port->listener < 0 ? RTU_CRC_BYTES : 0);
    if (end <= header)
        return true;

    const uint8_t *pdu = request + header;
    struct record record = {.port_index = (uint16_t)device, .function = pdu[0]};
    bool reads = pdu[0] == FUNCTION_READ_HOLDING || pdu[0] == FUNCTION_READ_INPUT;
    bool read = reads && end == header + 5;
    if (read) {
        record.address = word(pdu + 1);
        record.registers = word(pdu + 3);
        record.counted = is_counted(&record, port->mapping->nb_registers);
    }
    if (record.counted)
        renew(port, device);
    record.k = port->replies;
    enter(&record);
    modbus_mapping_t *held = record.address < IDENTITY_ADDRESS ? port->mapping : port->identity;
    int sent = read ? modbus_reply(port->context, request, length, held)
                    : modbus_reply_exception(port->context, request, MODBUS_EXCEPTION_ILLEGAL_FUNCTION);
    return sent >= 0;
}

/* Take one request from a connection; false when the client is gone. */
static bool serve_client(uint32_t port_index, int fd)
{
    struct port *port = &ports[port_index];
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_set_socket(port->context, fd);
    int length = modbus_receive(port->context, request);
    return length >= 0 && answer(port, port_index, request, length);
}

/* Take from the line a request to this unit, or a request to another one and its reply if any. */
static void serve_line(struct port *port, uint32_t unit)
{
    uint8_t request[MODBUS_RTU_MAX_ADU_LENGTH];
    int length = modbus_receive(port->context, request);
    if (length < 0 && (errno == EIO || errno == ECONNRESET)) /* the pseudo-terminal is gone */
        die("line");
    if (length > 0)
        answer(port, unit, request, length);
    else if (length == 0) /* now libmodbus ignores one frame; that must not be the next request */
        modbus_receive(port->context, request);
}

/* What epoll hands back: the port's index, the socket, and whether it is the listening one. */
static uint64_t token(uint32_t port_index, int fd, bool listening)
{
    return (uint64_t)listening << 63 | (uint64_t)port_index << 32 | (uint32_t)fd;
}

static void watch(int epoll, int fd, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

static void welcome(int epoll, uint32_t port_index)
{
    int listener = ports[port_index].listener;
    int fd = modbus_tcp_accept(ports[port_index].context, &listener);
    if (fd < 0)
        return; /* it went away before it was accepted */
    int on = 1;
    if (fd >= FD_SETSIZE || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        close(fd); /* libmodbus waits with select(), which ends at FD_SETSIZE */
        return;
    }
    watch(epoll, fd, token(port_index, fd, false));
}

static void prepare(struct port *port, uint32_t device, const struct options *options)
{
    if (port->context == NULL)
        die("modbus_new");
    port->mapping = modbus_mapping_new(0, 0, options->registers, options->registers);
    port->identity =
        modbus_mapping_new_start_address(0, 0, 0, 0, IDENTITY_ADDRESS, IDENTITY_REGISTERS, 0, 0);
    if (port->mapping == NULL || port->identity == NULL)
        die("modbus_mapping_new");
    uint16_t *identity = port->identity->tab_registers;
    for (const char *text = "LEDGER"; *text; text += 2)
        *identity++ = (uint16_t)(text[0] << 8 | text[1]);
    *identity = (uint16_t)device;
    port->replies = options->first - 1;
}

static void listen_on(uint32_t port_index, int number, const struct options *options)
{
    struct port *port = &ports[port_index];
    port->context = modbus_new_tcp("127.0.0.1", number);
    prepare(port, port_index, options);
    port->listener = modbus_tcp_listen(port->context, 16);
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (port->listener < 0 || getsockname(port->listener, (struct sockaddr *)&address, &size) != 0)
        die("modbus_tcp_listen");
    port->number = ntohs(address.sin_port);
}

static int open_line(struct port *port, const struct options *options)
{
    port->context = modbus_new_rtu(options->serial, BAUD, 'N', 8, 1);
    prepare(port, (uint32_t)options->unit, options);
    port->listener = -1;
    if (modbus_set_response_timeout(port->context, 0, NEIGHBOUR_REPLY_US) != 0 ||
        modbus_set_byte_timeout(port->context, 0, SILENCE_US) != 0 ||
        modbus_set_slave(port->context, options->unit) != 0 || modbus_connect(port->context) != 0)
        die(options->serial);
    /* What is not a request is noise up to the next silence. */
    modbus_set_error_recovery(port->context, MODBUS_ERROR_RECOVERY_PROTOCOL);
    return modbus_get_socket(port->context);
}

static int open_stop_signals(void)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    if (sigprocmask(SIG_BLOCK, &stop, NULL) != 0)
        die("sigprocmask");
    int fd = signalfd(-1, &stop, SFD_CLOEXEC);
    if (fd < 0)
        die("signalfd");
    return fd;
}

static void announce(const struct options *options)
{
    printf("{\"ready\":true,\"ports\":[");
    for (int i = 0; options->serial == NULL && i < options->count; i++)
        printf("%s%u", i ? "," : "", ports[i].number);
    printf("],\"registers\":%d}\n", options->registers);
    fflush(stdout);
}

static void serve(int epoll, int signals, uint32_t unit)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            uint64_t data = events[i].data.u64;
            int fd = (int)(uint32_t)data;
            uint32_t port_index = (uint32_t)(data >> 32) & 0x7FFFFFFF;
            if (fd == signals)
                return;
            if (unit)
                serve_line(&ports[0], unit);
            else if (data >> 63)
                welcome(epoll, port_index);
            else if (!serve_client(port_index, fd))
                close(fd);
        }
    }
}

static void usage(void)
{
    fprintf(stderr, "usage: ledger_slave --ports BASE COUNT | --serial DEVICE UNIT\n"
                    "                    --ledger FILE [--registers N] [--first K] [--every-read]\n"
                    "  BASE 0: free ports, see the ready line; N: 4 to 125, default 100; K: default 1\n");
    exit(2);
}

static struct options parse(int argc, char **argv)
{
    static const struct option LONG[] = {
        {"ports", required_argument, NULL, 'p'},
        {"serial", required_argument, NULL, 's'},
        {"every-read", no_argument, NULL, 'e'},
        {"ledger", required_argument, NULL, 'l'},
        {"registers", required_argument, NULL, 'r'},
        {"first", required_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.registers = 100, .first = 1};
    int option;
    while ((option = getopt_long(argc, argv, "", LONG, NULL)) != -1) {
        if (option == 'p' && optind < argc) {
            options.base = atoi(optarg);
            options.count = atoi(argv[optind++]);
        } else if (option == 's' && optind < argc) {
            options.serial = optarg;
            options.unit = atoi(argv[optind++]);
            options.count = 1;
        } else if (option == 'e') {
            options.every_read = true;
        } else if (option == 'l') {
            options.ledger = optarg;
        } else if (option == 'r') {
            options.registers = atoi(optarg);
        } else if (option == 'f') {
            options.first = strtoull(optarg, NULL, 10);
        } else {
            usage();
        }
    }
    if (optind != argc || options.ledger == NULL || options.count < 1 || options.count > PORTS_MAX ||
        options.base < 0 || options.base + options.count > 65536 || options.first < 1 ||
        (options.serial != NULL && (options.unit < 1 || options.unit > UNIT_MAX)) ||
        options.registers < COUNTER_REGISTERS || options.registers > REGISTERS_MAX)
        usage();
    return options;
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    ledger_fd = open(options.ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (ledger_fd < 0)
        die(options.ledger);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        die("epoll_create1");
    int signals = open_stop_signals();
    watch(epoll, signals, token(0, signals, false));
    every_read = options.every_read;
    if (options.serial != NULL)
        watch(epoll, open_line(&ports[0], &options), 0);
    for (int i = 0; options.serial == NULL && i < options.count; i++) {
        listen_on((uint32_t)i, options.base ? options.base + i : 0, &options);
        watch(epoll, ports[i].listener, token((uint32_t)i, ports[i].listener, true));
    }
    announce(&options);
    serve(epoll, signals, (uint32_t)options.unit);
    return 0;
}
