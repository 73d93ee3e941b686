package cli

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheTokenOfASandboxStaysAtItsServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("AFJ3MTN2OAOFE65KAGXY6AD5FM\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{Streams: Streams{Getenv: func(string) string { return "" }}}
	for _, at := range []string{"http://192.0.2.1:8460", "http://sandbox.example", "ftp://127.0.0.1", "127.0.0.1:8460", "http://"} {
		if _, err := a.openSandbox(at, file); err == nil {
			t.Errorf("%s was taken", at)
		}
	}
	if _, err := a.openSandbox("http://127.0.0.1:8460", ""); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("without a token: %v", err)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was asked, with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/sessions":
			io.WriteString(w, `{"sessions":[{"sessionId":"s_1","run":"run-1","state":"waiting_for_tool"}]}`)
		case "/sessions/s_1/cancel":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	box, err := a.openSandbox(server.URL, file)
	if err != nil {
		t.Fatal(err)
	}
	list, err := box.sessions(context.Background())
	if err != nil || len(list) != 1 || list[0].State != "waiting" || list[0].Run != "run-1" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := box.cancel(context.Background(), "s_1"); err == nil {
		t.Error("a redirect was followed, or taken for an answer")
	}
	if len(asked) != 2 || asked[0] != "GET /sessions Bearer AFJ3MTN2OAOFE65KAGXY6AD5FM" {
		t.Errorf("asked %q", asked)
	}
}
