package theme

// State draws a state as a glyph and its word. A word that is not known is drawn plain:
// a newer server may have states that this program does not know.
func (t Theme) State(word string) string {
	glyph, tone := "·", Plain
	switch word {
	case "connected", "active", "ok", "direct", "allowed", "in use", "open", "found", "running", "completed":
		glyph, tone = "●", Good
	case "pending", "outside hours", "waiting", "starting", "locking", "relay":
		glyph, tone = "○", Warn
	case "disconnected", "disabled", "expired", "inactive: no rules", "unused", "used up", "empty", "missing", "cancelled":
		glyph, tone = "○", Dim
	case "revoked", "denied", "failed", "locked":
		glyph, tone = "✗", Bad
	}
	return t.Paint(tone, glyph+" "+Clean(word))
}
