/* The ABI `mva1` for C: what a module imports and exports. No libc is needed.
 *
 * What each call means, and its errors, is in ../../mva1.wit. */

#ifndef MVA1_H
#define MVA1_H

#include <stdint.h>

#define MVA_STATE_BYTES_MAX 1024
#define MVA_INPUT_BYTES_MAX 16384
#define MVA_AGENT_BYTES 32

enum mva_error {
    MVA_NOT_FOUND = -1,
    MVA_BAD_ARGUMENT = -2,
    MVA_TOO_LARGE = -3,
    MVA_OVER_QUOTA = -4,
    MVA_UNAVAILABLE = -5,
    MVA_FORBIDDEN = -6,
    MVA_NOT_GRANTED = -7,
};

enum mva_kind { MVA_MESSAGE, MVA_PUBLICATION, MVA_TIMER, MVA_INVOCATION };
enum mva_level { MVA_ERROR, MVA_WARNING, MVA_INFORMATION, MVA_DEBUGGING };
enum mva_health { MVA_WELL, MVA_DEGRADED, MVA_FAILING };

/* Exports are named to the linker, `wasm-ld --export=handle` and so on for `mva_abi`, `MVA_STATE` and
 * `MVA_INBOX`. Clang's attribute `export_name` would give the module a table, which interpreters for
 * small devices do not take. */
int32_t mva_abi(void);
int32_t handle(const uint8_t *input, uint32_t len);

/* The state: only `len` bytes of it are kept from wake to wake. */
struct mva_state {
    uint32_t len;
    uint8_t bytes[MVA_STATE_BYTES_MAX];
};

#define MVA_IMPORT(name) __attribute__((import_module("mva1"), import_name(#name))) extern

MVA_IMPORT(publish) int32_t mva_publish(const void *topic, uint32_t topic_len, const void *data, uint32_t data_len);
MVA_IMPORT(send) int32_t mva_send(const uint8_t agent[MVA_AGENT_BYTES], const void *data, uint32_t data_len);
MVA_IMPORT(remember) int32_t mva_remember(const void *key, uint32_t key_len, const void *value, uint32_t value_len);
MVA_IMPORT(recall) int32_t mva_recall(const void *query, uint32_t query_len, void *out, uint32_t out_cap);
MVA_IMPORT(kv_get) int32_t mva_kv_get(const void *key, uint32_t key_len, void *out, uint32_t out_cap);
MVA_IMPORT(kv_put) int32_t mva_kv_put(const void *key, uint32_t key_len, const void *value, uint32_t value_len);
MVA_IMPORT(now) int64_t mva_now(void);
MVA_IMPORT(random) int32_t mva_random(void *out, uint32_t len);
MVA_IMPORT(wake_after) int32_t mva_wake_after(int32_t ms);
MVA_IMPORT(log) int32_t mva_log(int32_t level, const void *text, uint32_t len);
MVA_IMPORT(health) int32_t mva_health(int32_t code, const void *text, uint32_t len);
MVA_IMPORT(infer) int32_t mva_infer(const void *prompt, uint32_t prompt_len, void *out, uint32_t out_cap);

#endif
