/* A scanner of text: words, numbers, quoted strings with escapes, comments to the end of the line.
 * Gives how many of each there are, and a hash over kinds and lengths. */
#include "program.h"

#define TEXT 1024

enum state { BLANK, WORD, NUMBER, STRING, ESCAPE, COMMENT };

INLINE enum state begin(u8 c)
{
	if (c >= 'a' && c <= 'z')
		return WORD;
	if (c >= '0' && c <= '9')
		return NUMBER;
	if (c == '"')
		return STRING;
	if (c == '#')
		return COMMENT;
	return BLANK;
}

INLINE u64 run(void *mem, u64 len)
{
	const u8 *text = mem;
	u64 counts = 0, hash = len;
	enum state state = BLANK;

	if (len < TEXT)
		return 0;
	for (u32 i = 0; i < TEXT; i++) {
		u8 c = text[i];

		switch (state) {
		case BLANK:
			state = begin(c);
			break;
		case WORD:
			if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')
				break;
			counts += 1;
			hash = hash * 31 + WORD;
			state = begin(c);
			break;
		case NUMBER:
			if ((c >= '0' && c <= '9') || c == '.')
				break;
			counts += 1ULL << 16;
			hash = hash * 31 + NUMBER;
			state = begin(c);
			break;
		case STRING:
			if (c == '\\') {
				state = ESCAPE;
			} else if (c == '"') {
				counts += 1ULL << 32;
				hash = hash * 31 + STRING;
				state = BLANK;
			}
			break;
		case ESCAPE:
			state = STRING;
			break;
		case COMMENT:
			if (c == '\n') {
				counts += 1ULL << 48;
				hash = hash * 31 + COMMENT;
				state = BLANK;
			}
			break;
		}
		hash += c;
	}
	return counts ^ hash << 8;
}

ENTRY(run)
