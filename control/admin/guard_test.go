package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a client's connection whose deadlines can be seen.
type slow struct {
	*httptest.ResponseRecorder
	until time.Time
	late  bool // something was written without a deadline
}

func (s *slow) SetReadDeadline(time.Time) error    { return nil }
func (s *slow) SetWriteDeadline(t time.Time) error { s.until = t; return nil }
func (s *slow) Write(b []byte) (int, error) {
	s.late = s.late || !s.until.After(time.Now()) || s.until.After(time.Now().Add(writeTimeout))
	return s.ResponseRecorder.Write(b)
}

// TestEveryWriteHasADeadline looks at an answer, at one that takes long to think of,
// and at a refusal.
func TestEveryWriteHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &API{crossOrigin: http.NewCrossOriginProtection(), auth: &authenticator{failures: newThrottle(), good: newRecent()}}
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range 2 {
				time.Sleep(time.Hour)
				if _, err := w.Write([]byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
		for _, r := range []*rule{{scope: Public}, {scope: All}} {
			w := &slow{ResponseRecorder: httptest.NewRecorder()}
			a.guarded(r, h).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			if w.late || w.Body.Len() == 0 {
				t.Errorf("scope %q: written without a deadline: %v, %d bytes", r.scope, w.late, w.Body.Len())
			}
		}
	})
}
