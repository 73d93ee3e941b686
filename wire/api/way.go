package api

import "strings"

// Way is a route as people read it, from a status's Route and Via: direct, direct (tcp),
// relay or none, and at or by what.
func Way(route, via string) (word, at string) {
	if addr, ok := strings.CutPrefix(via, "tcp "); ok && route == "direct" {
		return "direct (tcp)", addr
	}
	return route, via
}
