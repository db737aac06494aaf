package console

import (
	"strings"
	"unicode/utf8"
)

// key is a key of the terminal: a character, or one of the names below.
type key string

// Keys other than characters.
const (
	keyUp     key = "up"
	keyDown   key = "down"
	keyPageUp key = "page up"
	keyPage   key = "page down"
	keyHome   key = "home"
	keyEnd    key = "end"
	keyEnter  key = "enter"
	keyErase  key = "erase"
	keyEscape key = "escape"
	keyStop   key = "stop" // control-C
)

// sequences maps the escape sequences of xterm and similar terminals to keys (console_codes(4)).
var sequences = map[string]key{
	"[A": keyUp, "[B": keyDown, "OA": keyUp, "OB": keyDown, "[5~": keyPageUp, "[6~": keyPage,
	"[H": keyHome, "[F": keyEnd, "[1~": keyHome, "[4~": keyEnd, "OH": keyHome, "OF": keyEnd,
}

// controls maps control characters to keys.
var controls = map[byte]key{'\r': keyEnter, '\n': keyEnter, 0x7f: keyErase, '\b': keyErase, 0x03: keyStop, 0x04: keyStop}

// readKeys splits input from a terminal into keys, and skips unknown ones. A sequence must come in
// one read.
func readKeys(said []byte) (keys []key) {
	for len(said) > 0 {
		if said[0] == 0x1b {
			n := sequenceLen(said)
			if k, known := sequences[string(said[1:n])]; known {
				keys = append(keys, k)
			} else if n == 1 {
				keys = append(keys, keyEscape)
			}
			said = said[n:]
			continue
		}
		r, n := utf8.DecodeRune(said)
		if k, known := controls[said[0]]; known {
			keys = append(keys, k)
		} else if r >= ' ' && r != utf8.RuneError {
			keys = append(keys, key(string(r)))
		}
		said = said[n:]
	}
	return keys
}

// sequenceLen returns the length of an escape sequence (ECMA-48, 5.4).
func sequenceLen(said []byte) int {
	switch {
	case len(said) < 3 || !strings.ContainsRune("[O", rune(said[1])):
		return 1
	case said[1] == 'O':
		return 3
	}
	for i, c := range said[2:] {
		if c >= 0x40 && c <= 0x7e {
			return i + 3
		}
	}
	return len(said)
}
