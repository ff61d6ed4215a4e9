// Prints each program of BPF objects as a case, a JSON object a line: what bpf(2) would be given
// after relocation by libbpf. Nothing is loaded but the maps, which relocation needs.
//
//   emit_objects BTF_DIR FILE.o...
//
// The types of an object go into a file in BTF_DIR. A program that libbpf cannot relocate here is
// left out, with a line on standard error.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/bpf.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

enum { MAX_MAPS = 256, MAX_CONTENTS = 65536, CHILD_SECONDS = 30 };

static struct btf *kernel_types;
static char warnings[6000];
// Maps that this kernel does not make; only a program that uses one fails then.
static char refused[64][64];
static int refused_count;
static bool newly_refused;

static int on_print(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[1200], *start, *end;
	if (level != LIBBPF_WARN) return 0;
	vsnprintf(line, sizeof(line), format, args);
	if (strlen(warnings) + strlen(line) < sizeof(warnings)) strcat(warnings, line);
	start = strstr(line, "map '");
	if (!start || !strstr(line, "failed to create") || refused_count == 64) return 0;
	end = strchr(start + 5, '\'');
	if (!end) return 0;
	snprintf(refused[refused_count++], sizeof(refused[0]), "%.*s", (int)(end - start - 5), start + 5);
	newly_refused = true;
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static void print_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = *text;
		if (c == '"' || c == '\\') printf("\\%c", c);
		else if (c < 32 || c > 126) printf("\\u%04x", c);
		else putchar(c);
	}
	putchar('"');
}

static void print_hex(const void *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) printf("%02x", ((const unsigned char *)bytes)[i]);
}

// Undefined symbols become weak, so that one which this kernel lacks is fatal only where it is used.
static void weaken(char *elf, size_t size)
{
	Elf64_Ehdr *header = (void *)elf;
	if (size < sizeof(*header) || memcmp(elf, ELFMAG, SELFMAG) ||
	    header->e_shoff + (size_t)header->e_shnum * sizeof(Elf64_Shdr) > size) return;
	Elf64_Shdr *sections = (void *)(elf + header->e_shoff);
	for (int i = 0; i < header->e_shnum; i++) {
		if (sections[i].sh_type != SHT_SYMTAB || sections[i].sh_offset + sections[i].sh_size > size) continue;
		Elf64_Sym *symbols = (void *)(elf + sections[i].sh_offset);
		for (size_t k = 1; k < sections[i].sh_size / sizeof(*symbols); k++)
			if (symbols[k].st_shndx == SHN_UNDEF && ELF64_ST_BIND(symbols[k].st_info) == STB_GLOBAL)
				symbols[k].st_info = ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(symbols[k].st_info));
	}
}

static struct bpf_object *open_object(const char *path, bool weak)
{
	char name[64];
	struct stat stat;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat)) return NULL;
	char *elf = malloc(stat.st_size);
	ssize_t got = read(fd, elf, stat.st_size);
	close(fd);
	if (got != stat.st_size) return NULL;
	if (weak) weaken(elf, got);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(base_name(path), "."), base_name(path));
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name);
	struct bpf_object *object = bpf_object__open_mem(elf, got, &options);
	int error = errno;
	free(elf);
	errno = error;
	return object;
}

static unsigned flag_of(const char *text)
{
	static const struct { const char *name; unsigned flag; } flags[] = {
		{ "BPF_F_STRICT_ALIGNMENT", 1 }, { "BPF_F_ANY_ALIGNMENT", 2 }, { "BPF_F_TEST_RND_HI32", 4 },
		{ "BPF_F_TEST_STATE_FREQ", 8 }, { "BPF_F_SLEEPABLE", 16 }, { "BPF_F_XDP_HAS_FRAGS", 32 },
		{ "BPF_F_TEST_REG_INVARIANTS", 128 },
	};
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (!strcmp(text, flags[i].name)) return flags[i].flag;
	return strtoul(text, NULL, 0);
}

// What a test says of a program in its types: flags, and whether it is another one's helper.
static void read_tags(const struct btf *btf, const char *program, unsigned *flags, bool *auxiliary)
{
	*flags = 0;
	*auxiliary = false;
	int function = btf ? btf__find_by_name_kind(btf, program, BTF_KIND_FUNC) : -1;
	for (unsigned i = 1; function > 0 && i < btf__type_cnt(btf); i++) {
		const struct btf_type *type = btf__type_by_id(btf, i);
		if (!btf_is_decl_tag(type) || (int)type->type != function) continue;
		const char *tag = btf__name_by_offset(btf, type->name_off);
		if (!strncmp(tag, "comment:test_prog_flags=", 24)) *flags |= flag_of(tag + 24);
		if (!strncmp(tag, "comment:test_auxiliary", 22)) *auxiliary = true;
	}
}

// Sizes that tests set at run time, and no pinning.
static void settle_map(struct bpf_map *map, bool struct_ops)
{
	int type = bpf_map__type(map);
	bpf_map__set_pin_path(map, NULL);
	for (int i = 0; i < refused_count; i++)
		if (!strcmp(refused[i], bpf_map__name(map))) bpf_map__set_autocreate(map, false);
	if (type == BPF_MAP_TYPE_STRUCT_OPS) {
		if (!struct_ops) bpf_map__set_autocreate(map, false);
		return;
	}
	if (bpf_map__max_entries(map) || bpf_map__is_internal(map)) return;
	switch (type) {
	case BPF_MAP_TYPE_RINGBUF: case BPF_MAP_TYPE_USER_RINGBUF: bpf_map__set_max_entries(map, 4096); return;
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY: case BPF_MAP_TYPE_CGROUP_STORAGE:
	case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: case BPF_MAP_TYPE_SK_STORAGE:
	case BPF_MAP_TYPE_INODE_STORAGE: case BPF_MAP_TYPE_TASK_STORAGE:
	case BPF_MAP_TYPE_CGRP_STORAGE: case BPF_MAP_TYPE_BLOOM_FILTER: return;
	default: bpf_map__set_max_entries(map, 1);
	}
}

static void print_shape(const struct bpf_map *map)
{
	unsigned value = bpf_map__btf_value_type_id(map);
	printf("\"type\":%d,\"key\":%u,\"value\":%u,\"max\":%u,\"flags\":%u", bpf_map__type(map), bpf_map__key_size(map),
	       bpf_map__value_size(map), bpf_map__max_entries(map), bpf_map__map_flags(map));
	printf(",\"obj_btf_key\":%u,\"obj_btf_value\":%u", bpf_map__btf_key_type_id(map), value);
}

// libbpf forgets what maps of maps hold once they are made, so that is asked before.
struct inner { const struct bpf_map *outer; unsigned type, key, value, max, flags, btf_key, btf_value; };
static struct inner inners[MAX_MAPS];
static int inner_count;

static void note_inner(struct bpf_map *map)
{
	struct bpf_map *inner = bpf_map__inner_map(map);
	if (!inner || inner_count == MAX_MAPS) return;
	inners[inner_count++] = (struct inner){ map, bpf_map__type(inner), bpf_map__key_size(inner), bpf_map__value_size(inner),
		bpf_map__max_entries(inner), bpf_map__map_flags(inner), bpf_map__btf_key_type_id(inner), bpf_map__btf_value_type_id(inner) };
}

static void print_contents(struct bpf_map *map)
{
	static unsigned char contents[MAX_CONTENTS];
	unsigned size = bpf_map__value_size(map), key = 0;
	if (!bpf_map__is_internal(map) || size > MAX_CONTENTS || bpf_map_lookup_elem(bpf_map__fd(map), &key, contents)) return;
	printf(",\"frozen\":%s", bpf_map__map_flags(map) & BPF_F_RDONLY_PROG ? "true" : "false");
	for (unsigned i = 0; i < size; i++)
		if (contents[i]) {
			printf(",\"init\":[{\"key\":\"00000000\",\"value\":\"");
			print_hex(contents, size);
			printf("\"}]");
			return;
		}
}

static void print_map(struct bpf_map *map)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	printf("{\"name\":");
	print_string(bpf_map__name(map));
	putchar(',');
	print_shape(map);
	if (!bpf_map_get_info_by_fd(bpf_map__fd(map), &info, &length))
		printf(",\"has_btf\":%s", info.btf_value_type_id ? "true" : "false");
	if (bpf_map__map_extra(map)) printf(",\"extra\":%llu", (unsigned long long)bpf_map__map_extra(map));
	for (int i = 0; i < inner_count; i++) {
		struct inner *inner = &inners[i];
		if (inner->outer == map)
			printf(",\"inner\":{\"type\":%u,\"key\":%u,\"value\":%u,\"max\":%u,\"flags\":%u,\"obj_btf_key\":%u,\"obj_btf_value\":%u,\"has_btf\":%s}",
			       inner->type, inner->key, inner->value, inner->max, inner->flags, inner->btf_key, inner->btf_value, inner->btf_value ? "true" : "false");
	}
	print_contents(map);
	putchar('}');
}

// The maps that instructions name, and where.
static void print_maps(struct bpf_object *object, const struct bpf_insn *insns, size_t count)
{
	struct bpf_map *used[MAX_MAPS], *map;
	int used_count = 0, k;
	const char *comma = "";
	printf(",\"map_refs\":[");
	for (size_t i = 0; i + 1 < count; i++) {
		if (insns[i].code != 0x18) continue;
		if (insns[i].src_reg == BPF_PSEUDO_MAP_FD || insns[i].src_reg == BPF_PSEUDO_MAP_VALUE) {
			bpf_object__for_each_map(map, object) if (bpf_map__fd(map) == insns[i].imm) break;
			for (k = 0; k < used_count && used[k] != map; k++) ;
			if (map && k == used_count && used_count < MAX_MAPS) used[used_count++] = map;
			if (map && k < used_count) { printf("%s[%zu,%d]", comma, i, k); comma = ","; }
		}
		i++;
	}
	printf("],\"maps\":[");
	for (k = 0; k < used_count; k++) {
		if (k) putchar(',');
		print_map(used[k]);
	}
	printf("]");
}

static void print_kfuncs(const struct bpf_insn *insns, size_t count)
{
	const char *comma = "";
	printf(",\"kfunc_refs\":[");
	for (size_t i = 0; i < count; i++) {
		if (insns[i].code == 0x18) { i++; continue; }
		if (insns[i].code != (BPF_JMP | BPF_CALL) || insns[i].src_reg != BPF_PSEUDO_KFUNC_CALL || insns[i].off) continue;
		const struct btf_type *type = btf__type_by_id(kernel_types, insns[i].imm);
		if (!insns[i].imm || !type) continue;
		printf("%s[%zu,", comma, i);
		print_string(btf__name_by_offset(kernel_types, type->name_off));
		printf("]");
		comma = ",";
	}
	printf("]");
}

static void print_types(struct bpf_object *object, struct bpf_program *program, const char *directory, const char *file)
{
	char path[700];
	__u32 size;
	const struct btf *btf = bpf_object__btf(object);
	const void *raw = btf ? btf__raw_data(btf, &size) : NULL;
	if (!raw) return;
	snprintf(path, sizeof(path), "%s/%s.btf", directory, file);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, raw, size) != (ssize_t)size) { perror(path); exit(1); }
	close(fd);
	printf(",\"btf_file\":");
	snprintf(path, sizeof(path), "%s/%s.btf", base_name(directory), file);
	print_string(path);
	const struct bpf_func_info *info = bpf_program__func_info(program);
	printf(",\"func_info\":[");
	for (unsigned i = 0; i < bpf_program__func_info_cnt(program); i++)
		printf("%s[%u,%u]", i ? "," : "", info[i].insn_off, info[i].type_id);
	printf("]");
}

static void print_case(struct bpf_object *object, struct bpf_program *program, const char *path, const char *directory)
{
	const char *section = bpf_program__section_name(program), *target = strchr(section, '/');
	const struct bpf_insn *insns = bpf_program__insns(program);
	size_t count = bpf_program__insn_cnt(program), length = strlen(section);
	unsigned type = bpf_program__type(program), flags = bpf_program__flags(program);
	char id[512];
	if (!strncmp(section, "xdp.frags", 9)) flags |= BPF_F_XDP_HAS_FRAGS;
	if (!strcmp(section, "syscall") || strstr(section, ".s/") || (length > 2 && !strcmp(section + length - 2, ".s"))) flags |= BPF_F_SLEEPABLE;
	snprintf(id, sizeof(id), "%s:%s", base_name(path), bpf_program__name(program));
	printf("{\"id\":");
	print_string(id);
	printf(",\"prog_type\":%u,\"attach_type\":%d,\"flags\":%u", type, bpf_program__expected_attach_type(program), flags);
	if (target && (type == BPF_PROG_TYPE_TRACING || type == BPF_PROG_TYPE_LSM)) {
		printf(",\"attach_func\":");
		print_string(target + 1);
	}
	print_types(object, program, directory, base_name(path));
	print_maps(object, insns, count);
	print_kfuncs(insns, count);
	printf(",\"insns\":\"");
	print_hex(insns, count * sizeof(*insns));
	printf("\"}\n");
	fflush(stdout);
}

// Relocates one program of an object. Tried again without a map that cannot be made, and with weak
// symbols.
static int emit(const char *path, int index, const char *directory)
{
	bool weak = false;
	for (int attempt = 0; attempt < 40; attempt++) {
		struct bpf_program *program, *chosen = NULL;
		struct bpf_map *map;
		unsigned flags;
		bool auxiliary;
		int i = 0;
		warnings[0] = 0;
		newly_refused = false;
		struct bpf_object *object = open_object(path, weak);
		if (!object) return -1;
		bpf_object__for_each_program(program, object) {
			bool on = i++ == index;
			if (on) chosen = program;
			read_tags(bpf_object__btf(object), bpf_program__name(program), &flags, &auxiliary);
			bpf_program__set_autoload(program, on || auxiliary);
		}
		if (!chosen) return -1;
		// A section of no known type: taken for traffic control.
		if (bpf_program__type(chosen) == BPF_PROG_TYPE_UNSPEC) bpf_program__set_type(chosen, BPF_PROG_TYPE_SCHED_CLS);
		inner_count = 0;
		bpf_object__for_each_map(map, object) {
			settle_map(map, bpf_program__type(chosen) == BPF_PROG_TYPE_STRUCT_OPS);
			note_inner(map);
		}
		read_tags(bpf_object__btf(object), bpf_program__name(chosen), &flags, &auxiliary);
		bpf_program__set_flags(chosen, bpf_program__flags(chosen) | flags);
		int error = bpf_object__prepare(object);
		if (!error) {
			print_case(object, chosen, path, directory);
			bpf_object__close(object);
			return 0;
		}
		bpf_object__close(object);
		if (newly_refused) continue;
		if (weak || (!strstr(warnings, "not found in kernel") && !strstr(warnings, "(strong): not resolved"))) return -1;
		weak = true;
	}
	return -1;
}

static void emit_object(const char *path, const char *directory)
{
	struct bpf_program *program;
	struct bpf_object *object = open_object(path, false);
	int count = 0;
	if (!object) { fprintf(stderr, "left out: %s: libbpf does not open it\n", base_name(path)); return; }
	bpf_object__for_each_program(program, object) count++;
	bpf_object__close(object);
	for (int i = 0; i < count; i++) {
		int status;
		fflush(stdout);
		pid_t child = fork();
		if (!child) {
			alarm(CHILD_SECONDS);
			_exit(emit(path, i, directory) ? 1 : 0);
		}
		if (child < 0 || waitpid(child, &status, 0) < 0 || status)
			fprintf(stderr, "left out: %s: program %d\n", base_name(path), i);
	}
}

int main(int argc, char **argv)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	libbpf_set_print(on_print);
	kernel_types = btf__load_vmlinux_btf();
	if (argc < 3 || !kernel_types) { fprintf(stderr, "usage: emit_objects BTF_DIR FILE.o..., where the kernel shows its types\n"); return 2; }
	for (int i = 2; i < argc; i++) emit_object(argv[i], argv[1]);
	return 0;
}
