package opinion

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"enclave/sandbox/score"
)

func answer(content string) string {
	b, _ := json.Marshal(map[string]any{"choices": []any{map[string]any{"message": map[string]string{"role": "assistant", "content": content}}}})
	return string(b)
}

func TestASecondOpinion(t *testing.T) {
	var asked atomic.Int32
	say := answer("Sure: {\"score\": 85, \"signals\": [{\"name\": \"exfil; rm\", \"points\": 85, \"detail\": \"a\\nb\"}]}")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer k" || !strings.Contains(string(body), "users:list") {
			t.Errorf("asked %s with %s", r.URL, body)
		}
		io.WriteString(w, say)
	}))
	defer srv.Close()
	m := &Model{URL: srv.URL + "/v1", Name: "small", Key: "k", HTTP: srv.Client()}
	f := score.Features{Calls: []score.Call{{Tool: "users:list"}}}
	for range 3 {
		v, err := m.Opinion(f)
		if err != nil || v.Score != 85 || len(v.Signals) != 1 || v.Signals[0] != (score.Signal{Name: "MODEL_EXFIL__RM", Points: 85, Detail: "a b"}) {
			t.Errorf("%+v, %v", v, err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times for one script", asked.Load())
	}
	if v := score.Ask(f, score.Verdict{Score: 35}, m, score.Policy{}); v.Action != score.Block {
		t.Errorf("%+v", v)
	}
	say = answer("no idea")
	f.Lines = 2
	if _, err := m.Opinion(f); err == nil || asked.Load() != 2 {
		t.Errorf("%v after %d", err, asked.Load())
	}
	srv.Close()
	f.Lines = 3
	if v := score.Ask(f, score.Verdict{Score: 35}, m, score.Policy{FailClosed: true}); v.Action != score.Block {
		t.Errorf("no opinion, and it is let through: %+v", v)
	}
}

// TestAModelSendsNobodyOn: what is asked of it, and its key, go nowhere else.
func TestAModelSendsNobodyOn(t *testing.T) {
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/away") {
				t.Errorf("%d: followed, with %q", status, r.Header.Get("Authorization"))
				io.WriteString(w, answer(`{"score": 1}`))
				return
			}
			http.Redirect(w, r, "/away", status)
		}))
		m := &Model{URL: srv.URL, Name: "small", Key: "k"}
		if v, err := m.Opinion(score.Features{}); err == nil {
			t.Errorf("%d: %+v", status, v)
		}
		srv.Close()
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(answer(`{"score": 1, "signals": []}`)))
	f.Add([]byte(answer(`{"score": 1e999}`)))
	f.Add([]byte(answer(`}{`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, err := parse(raw); err == nil && (v.Score < 0 || v.Score > 100) {
			t.Fatalf("%+v", v)
		}
	})
}
