package session

import "testing"

func TestPagesOfListedOriginsMayCall(t *testing.T) {
	const page = "https://app.example.com"
	s := server(t, one, func(c *Config) { c.Origins = []string{page} }).Handler()
	for _, tc := range []struct {
		method, origin, token string
		status                int
		allowed               string
	}{
		{"OPTIONS", page, "", 204, page},
		{"GET", page, aliceToken, 200, page},
		{"GET", page, "", 401, page}, // a page sees why
		{"GET", "https://evil.example", aliceToken, 200, ""},
		{"OPTIONS", "https://evil.example", "", 404, ""},
		{"GET", "", aliceToken, 200, ""},
	} {
		w := do(t, s, tc.method, "/sessions", tc.token, "", "Origin", tc.origin)
		if w.Header().Get("Vary") != "Origin" { // or a cache would hand one page's answer to another
			t.Errorf("%s from %q: varies by %q", tc.method, tc.origin, w.Header().Get("Vary"))
		}
		if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code != tc.status || got != tc.allowed || w.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s from %q: %d, allows %q", tc.method, tc.origin, w.Code, got)
		}
	}
	plain := server(t, one, nil).Handler()
	if w := do(t, plain, "GET", "/sessions", aliceToken, "", "Origin", page); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("a page may call a server that lists none")
	}
	for text, ok := range map[string]bool{page: true, "http://127.0.0.1:3000": true, "*": false, "null": false, page + "/": false, "app.example.com": false, "https://u@h": false,
		"ftp://h": false, "https://": false, "https://h?x": false, "https://h\x7f": false} {
		if (CheckOrigin(text) == nil) != ok {
			t.Errorf("%q: %v", text, CheckOrigin(text))
		}
	}
}
