package control

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"enclave/wire"
)

// paced is a recorder that takes deadlines, as a connection does.
type paced struct{ *httptest.ResponseRecorder }

func (paced) SetWriteDeadline(time.Time) error { return nil }

// TestAGoodbyeIsACause: a stream that control ended says so where it is logged.
func TestAGoodbyeIsACause(t *testing.T) {
	w := paced{httptest.NewRecorder()}
	out := &lines{w: w, control: http.NewResponseController(w), timeout: time.Second}
	err := out.leave(&wire.Bye{Code: wire.ByeReplaced, Message: "this system connected again"})
	if err == nil || !strings.Contains(err.Error(), "(replaced): this system connected again") {
		t.Errorf("the cause is %v", err)
	}
	if !strings.Contains(w.Body.String(), `"bye"`) {
		t.Errorf("said %s", w.Body)
	}
}
