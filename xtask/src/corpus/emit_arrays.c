// Prints the arrays of test programs in the selftests' verifier/*.c as cases, a JSON object a line.
// The sources it includes come from the distribution's package when it is built.
#define main tv_main
#include "test_verifier.c"
#undef main
#include "gen/files.h"
static void hex(const void *p, size_t n) { for (size_t i = 0; i < n; i++) printf("%02x", ((const unsigned char *)p)[i]); }
static void js(const char *s) {
	putchar('"');
	for (; s && *s; s++) { if (*s=='"'||*s=='\\') printf("\\%c", *s); else if (*s=='\n') printf("\\n"); else if (*s=='\t') printf("\\t"); else if ((unsigned char)*s < 32) printf("\\u%04x", *s); else putchar(*s); }
	putchar('"');
}
static int nm, nref; static char refs[8192]; static size_t rl;
static void map(int *fix, const char *desc_fmt) {
	if (!*fix) return;
	printf("%s%s", nm ? "," : "", desc_fmt);
	do rl += sprintf(refs + rl, "%s[%d,%d]", nref++ ? "," : "", *fix, nm); while (*++fix);
	nm++;
}
static char btfhex[8192];
static char *mkbtf(const __u32 *types, int tl, const char *str, int sl) {
	struct btf_header h = { .magic = BTF_MAGIC, .version = BTF_VERSION, .hdr_len = sizeof(h), .type_len = tl, .str_off = tl, .str_len = sl };
	static char out[65536]; size_t o = 0;
	for (size_t i = 0; i < sizeof(h); i++) o += sprintf(out + o, "%02x", ((unsigned char *)&h)[i]);
	for (int i = 0; i < tl; i++) o += sprintf(out + o, "%02x", ((unsigned char *)types)[i]);
	for (int i = 0; i < sl; i++) o += sprintf(out + o, "%02x", ((unsigned char *)str)[i]);
	return out;
}
static const char *R[] = { "undef", "accept", "reject", "verbose_accept" };
int main(void) {
	srand(1);	// the same programs every time
	strcpy(btfhex, mkbtf(btf_raw_types, sizeof(btf_raw_types), btf_str_sec, sizeof(btf_str_sec)));
	struct test_val tv = { .index = 28, .foo[6] = 0xabcdef12 };
	char tvh[256]; size_t o = 0;
	for (size_t i = 0; i < sizeof(tv); i++) o += sprintf(tvh + o, "%02x", ((unsigned char *)&tv)[i]);
	for (unsigned f = 0; f < sizeof(FILES)/sizeof(FILES[0]); f++) for (int k = 0; k < FILES[f].n; k++) {
		struct bpf_test *t = &FILES[f].t[k];
		struct bpf_insn *prog = t->insns; int len;
		int pt = t->prog_type ? t->prog_type : BPF_PROG_TYPE_SOCKET_FILTER;
		char b[2048], kk[32];
		if (t->fill_helper) { t->fill_insns = calloc(MAX_TEST_INSNS, 8); t->fill_helper(t); prog = t->fill_insns; len = t->prog_len; }
		else len = probe_filter_length(prog);
		unsigned fl = 0;
		if (t->flags & F_LOAD_WITH_STRICT_ALIGNMENT) fl |= BPF_F_STRICT_ALIGNMENT;
		if (t->flags & F_NEEDS_EFFICIENT_UNALIGNED_ACCESS) fl |= BPF_F_ANY_ALIGNMENT;
		if (t->flags & ~3) fl |= t->flags;
		printf("{\"id\":\"%s/%d\",\"file\":\"%s\",\"descr\":", FILES[f].name, k, FILES[f].name); js(t->descr);
		printf(",\"prog_type\":%d,\"attach_type\":%d,\"flags\":%u,\"test_flags\":%d", pt, t->expected_attach_type, fl, t->flags);
		printf(",\"result\":\"%s\",\"result_unpriv\":\"%s\",\"test_unpriv\":%s", R[t->result], R[t->result_unpriv], test_as_unpriv(t) ? "true" : "false");
		if (t->errstr) { printf(",\"errstr\":"); js(t->errstr); }
		if (t->errstr_unpriv) { printf(",\"errstr_unpriv\":"); js(t->errstr_unpriv); }
		if (t->insn_processed) printf(",\"expect_processed\":%u", t->insn_processed);
		if (t->result == VERBOSE_ACCEPT) printf(",\"log_level\":2,\"want_log\":1");
		if (t->kfunc) { printf(",\"attach_func\":"); js(t->kfunc); }
		nm = nref = 0; rl = 0; refs[0] = 0;
		printf(",\"maps\":[");
		if (!t->fill_helper) {
#define M(fix, ...) do { snprintf(b, sizeof(b), __VA_ARGS__); map(t->fix, b); } while (0)
		M(fixup_map_hash_8b, "{\"type\":1,\"key\":8,\"value\":8,\"max\":1,\"flags\":1}");
		M(fixup_map_hash_48b, "{\"type\":1,\"key\":8,\"value\":48,\"max\":1,\"flags\":1}");
		M(fixup_map_hash_16b, "{\"type\":1,\"key\":8,\"value\":16,\"max\":1,\"flags\":1}");
		M(fixup_map_array_48b, "{\"type\":2,\"key\":4,\"value\":48,\"max\":1,\"init\":[{\"key\":\"00000000\",\"value\":\"%s\"}]}", tvh);
		M(fixup_prog1, "{\"type\":3,\"key\":4,\"value\":4,\"max\":4,\"progs\":[{\"key\":0,\"ret\":42},{\"key\":1,\"tail\":1,\"ret\":41},{\"key\":2,\"ret\":24}]}");
		M(fixup_prog2, "{\"type\":3,\"key\":4,\"value\":4,\"max\":8,\"progs\":[{\"key\":7,\"ret\":42},{\"key\":1,\"tail\":1,\"ret\":41},{\"key\":2,\"ret\":24}]}");
		M(fixup_map_in_map, "{\"type\":12,\"key\":4,\"value\":4,\"max\":1,\"inner\":{\"type\":2,\"key\":4,\"value\":4,\"max\":1}}");
		M(fixup_cgroup_storage, "{\"type\":19,\"key\":%zu,\"value\":64,\"max\":0}", sizeof(struct bpf_cgroup_storage_key));
		M(fixup_percpu_cgroup_storage, "{\"type\":21,\"key\":%zu,\"value\":64,\"max\":0}", sizeof(struct bpf_cgroup_storage_key));
		M(fixup_map_sockmap, "{\"type\":15,\"key\":4,\"value\":4,\"max\":1}");
		M(fixup_map_sockhash, "{\"type\":18,\"key\":4,\"value\":4,\"max\":1}");
		M(fixup_map_xskmap, "{\"type\":17,\"key\":4,\"value\":4,\"max\":1}");
		M(fixup_map_stacktrace, "{\"type\":7,\"key\":4,\"value\":8,\"max\":1}");
#define MB(fix, ty, vs, mx, fl2, vid) do { if (*t->fix) { static char bb[16384]; snprintf(bb, sizeof(bb), "{\"type\":%d,\"key\":4,\"value\":%d,\"max\":%d,\"flags\":%d,\"btf_key\":1,\"btf_value\":%d,\"btf_hex\":\"%s\"}", ty, vs, mx, fl2, vid, btfhex); map(t->fix, bb); } } while (0)
		MB(fixup_map_spin_lock, 2, 8, 1, 0, 3);
		M(fixup_map_array_ro, "{\"type\":2,\"key\":4,\"value\":48,\"max\":1,\"flags\":%d,\"init\":[{\"key\":\"00000000\",\"value\":\"%s\"}]}", BPF_F_RDONLY_PROG, tvh);
		M(fixup_map_array_wo, "{\"type\":2,\"key\":4,\"value\":48,\"max\":1,\"flags\":%d,\"init\":[{\"key\":\"00000000\",\"value\":\"%s\"}]}", BPF_F_WRONLY_PROG, tvh);
		M(fixup_map_array_small, "{\"type\":2,\"key\":4,\"value\":1,\"max\":1,\"init\":[{\"key\":\"00000000\",\"value\":\"1c\"}]}");
		MB(fixup_sk_storage_map, 24, 8, 0, 1, 3);
		M(fixup_map_event_output, "{\"type\":4,\"key\":4,\"value\":4,\"max\":1}");
		M(fixup_map_reuseport_array, "{\"type\":20,\"key\":4,\"value\":8,\"max\":1}");
		M(fixup_map_ringbuf, "{\"type\":27,\"key\":0,\"value\":0,\"max\":4096}");
		MB(fixup_map_timer, 2, 16, 1, 0, 5);
		MB(fixup_map_kptr, 2, 24, 1, 0, 14);
		}
		printf("],\"map_refs\":[%s]", refs);
		if (t->fixup_kfunc_btf_id[0].kfunc) {
			printf(",\"kfunc_refs\":[");
			for (int i = 0; t->fixup_kfunc_btf_id[i].kfunc; i++) { printf("%s[%d,", i ? "," : "", t->fixup_kfunc_btf_id[i].insn_idx); js(t->fixup_kfunc_btf_id[i].kfunc); printf("]"); }
			printf("]");
		}
		if (t->btf_types[0]) {
			int n = 0; while (n < MAX_BTF_TYPES && t->btf_types[n] != BTF_END_RAW) n++;
			printf(",\"btf_hex\":\"%s\"", mkbtf(t->btf_types, n * 4, t->btf_strings, sizeof(t->btf_strings)));
		}
		if (t->func_info_cnt) {
			printf(",\"func_info\":[");
			for (int i = 0; i < t->func_info_cnt; i++) printf("%s[%d,%d]", i ? "," : "", t->func_info[i].insn_off, t->func_info[i].type_id);
			printf("]");
		}
		if (t->result != REJECT && t->runs >= 0) {
			int rn = t->runs ? t->runs : 1;
			printf(",\"runs\":[");
			for (int i = 0; i < rn; i++) {
				printf("%s{\"retval\":%u,\"retval_unpriv\":%u,\"data\":\"", i ? "," : "", t->retvals[i].retval, t->retvals[i].retval_unpriv);
				hex(t->retvals[i].data, sizeof(t->retvals[i].data)); printf("\"}");
			}
			printf("]");
		}
		printf(",\"has_expected_xlated\":%s", is_null_insn(t->expected_insns) && is_null_insn(t->unexpected_insns) ? "false" : "true");
		printf(",\"len\":%d,\"insns\":\"", len); hex(prog, (size_t)len * 8); printf("\"}\n");
		if (t->fill_insns) { free(t->fill_insns); t->fill_insns = NULL; }
	}
	return 0;
}
