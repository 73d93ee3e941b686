package wire

// Steers reports whether a terminal does something else with r than to show it: a control
// of either set (C1 too, which some take in UTF-8), a line end of Unicode, a mark that
// turns the direction of what is around it, so that a line reads as another, or a
// character without width, by which two names look the same. Joiners stay: scripts and
// emoji are spelt with them.
func Steers(r rune) bool {
	switch {
	case r < 0x20 || r >= 0x7f && r < 0xa0:
		return true
	case r < 0x61c:
		return r == 0xad // soft hyphen
	}
	return r == 0x61c || r == 0x180e || r == 0x200b || r == 0x200e || r == 0x200f ||
		r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff ||
		r >= 0xfff9 && r <= 0xfffb || r >= 0xe0000 && r <= 0xe007f
}
