/* Echo: gives back what it gets, with how often it was asked, which it remembers.
 *
 * A message is sent back to its sender, and an invocation is answered, with `[count, body]`. It is
 * here to show the ABI bare: without an SDK and without a libc.
 *
 * Not here: publications and timers, which it lets pass. */

#include "mva1.h"

struct mva_state MVA_STATE;
uint8_t MVA_INBOX[MVA_INPUT_BYTES_MAX];

/* Canonical CBOR: the major types, and a place within the bytes. A place that is past its end says
 * that something was wrong. */
enum { UINT = 0, BYTES = 2, TEXT = 3, ARRAY = 4 };

struct place {
    const uint8_t *at, *end;
};

/* The argument of the next value, which must be of type `major`. */
static uint64_t head(struct place *p, unsigned major) {
    unsigned low, len;
    uint64_t argument = 0;
    if (p->at >= p->end || *p->at >> 5 != major) goto bad;
    low = *p->at++ & 31;
    if (low < 24) return low;
    len = 1u << (low - 24);
    if (low > 27 || p->end - p->at < (int)len) goto bad;
    for (unsigned i = 0; i < len; i++) argument = argument << 8 | *p->at++;
    if (argument < 24 || argument >> (len * 4) == 0) goto bad; /* not the shortest form */
    return argument;
bad:
    p->at = p->end + 1;
    return 0;
}

/* The next string, of type `major`. */
static struct place string(struct place *p, unsigned major) {
    uint64_t len = head(p, major);
    struct place s = {p->at, p->at};
    if (p->at > p->end || len > (uint64_t)(p->end - p->at)) {
        p->at = p->end + 1;
        return s;
    }
    s.end = p->at += len;
    return s;
}

static uint8_t *put_head(uint8_t *to, unsigned major, uint32_t argument) {
    int len = argument < 24 ? 0 : argument < 0x100 ? 1 : argument < 0x10000 ? 2 : 4;
    *to++ = (uint8_t)(major << 5 | (len == 0 ? argument : len == 4 ? 26 : 23u + (unsigned)len));
    while (len-- > 0) *to++ = (uint8_t)(argument >> (8 * len));
    return to;
}

/* Not on the stack, which is as small as this. Wiped with everything else after the wake. */
static uint8_t answer[MVA_INPUT_BYTES_MAX + 16];

int32_t mva_abi(void) { return 1; }

int32_t handle(const uint8_t *input, uint32_t len) {
    struct place p = {input, input + len}, from, body, kept;
    uint64_t kind, count = 0;
    uint8_t *to = answer;
    int32_t rc;

    if (input != MVA_INBOX || len > sizeof MVA_INBOX) return MVA_BAD_ARGUMENT;
    if (head(&p, ARRAY) != 5) return MVA_BAD_ARGUMENT;
    kind = head(&p, UINT);
    from = string(&p, BYTES);
    string(&p, TEXT);
    head(&p, UINT);
    body = string(&p, BYTES);
    if (p.at != p.end) return MVA_BAD_ARGUMENT;

    if (MVA_STATE.len > 0 && MVA_STATE.len <= sizeof MVA_STATE.bytes) {
        kept = (struct place){MVA_STATE.bytes, MVA_STATE.bytes + MVA_STATE.len};
        count = head(&kept, UINT);
    }
    count = (uint32_t)count + 1u;

    to = put_head(to, ARRAY, 2);
    to = put_head(to, UINT, (uint32_t)count);
    to = put_head(to, BYTES, (uint32_t)(body.end - body.at));
    while (body.at < body.end) *to++ = *body.at++;

    if (kind == MVA_MESSAGE && from.end - from.at == MVA_AGENT_BYTES)
        rc = mva_send(from.at, answer, (uint32_t)(to - answer));
    else if (kind == MVA_INVOCATION)
        rc = mva_publish("", 0, answer, (uint32_t)(to - answer));
    else
        return 0;
    if (rc < 0) return rc;

    MVA_STATE.len = (uint32_t)(put_head(MVA_STATE.bytes, UINT, (uint32_t)count) - MVA_STATE.bytes);
    return 0;
}
