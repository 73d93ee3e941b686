package session

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	_ "embed"
)

//go:embed openapi.json
var openAPI []byte

// How events travel.
const (
	kindLines  = "application/x-ndjson"
	kindEvents = "text/event-stream"
)

// writeTimeout bounds how long a reader may take for a batch; a reader that hangs
// longer is cut off and can come back.
const writeTimeout = 30 * time.Second

func accepts(r *http.Request, kind string) bool {
	for _, part := range strings.Split(r.Header.Get("Accept"), ",") {
		if one, _, err := mime.ParseMediaType(part); err == nil && one == kind {
			return true
		}
	}
	return false
}

// replay streams a session from a number on: fromSeq is the first that is wanted. An
// EventSource that comes back says the last it had instead.
func (s *Server) replay(w http.ResponseWriter, r *http.Request, by *bearer, l *live) error {
	from := uint64(1)
	if text := r.URL.Query().Get("fromSeq"); text != "" {
		n, err := strconv.ParseUint(text, 10, 62)
		if err != nil {
			return bad("fromSeq: want a number")
		}
		from = n
	} else if text := r.Header.Get("Last-Event-ID"); text != "" {
		n, err := strconv.ParseUint(text, 10, 62)
		if err != nil {
			return bad("Last-Event-ID: want a number")
		}
		from = n + 1
	}
	f, err := s.filter(r, l.log.Sealed())
	if err != nil {
		return err
	}
	leave, err := s.reads(by.who.Tenant)
	if err != nil {
		return err
	}
	defer leave()
	return s.stream(w, r, by, l, from, f)
}

// reads takes a place among the streams of a tenant; the caller calls leave once.
func (s *Server) reads(tenant string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[tenant] >= s.cfg.Limits.Streams {
		return nil, errReaders
	}
	s.streams[tenant]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.streams[tenant]--; s.streams[tenant] == 0 {
			delete(s.streams, tenant)
		}
	}, nil
}

// filter reads which events a reader wants.
func (s *Server) filter(r *http.Request, sealed bool) (*Filter, error) {
	text := r.URL.Query().Get("filter")
	switch {
	case text == "":
		return nil, nil
	case sealed:
		return nil, bad("filter: the events of this session are sealed, so only its client can filter them")
	}
	f, err := ParseFilter(text)
	if err != nil {
		return nil, bad("filter: %v", err)
	}
	return f, nil
}

// stream sends events until the log has ended, the reader is gone or too slow, or its token
// is accepted no more: nothing follows that but the word about it.
// It returns no error: the answer has begun.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, by *bearer, l *live, from uint64, f *Filter) error {
	sse := accepts(r, kindEvents)
	h := w.Header()
	h.Set("Content-Type", kindLines)
	if sse {
		h.Set("Content-Type", kindEvents)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	c := http.NewResponseController(w)
	// The deadline of the request's body would end the stream: it is read in full.
	c.SetReadDeadline(time.Time{}) //nolint:errcheck // a recorder in tests has none
	beat := time.NewTicker(s.cfg.Limits.Heartbeat)
	defer beat.Stop()
	ready := make(chan struct{})
	close(ready)
next:
	for {
		if by.held.Err() != nil {
			c.SetWriteDeadline(time.Now().Add(writeTimeout)) //nolint:errcheck // a recorder in tests has none
			// The number is the last that this reader had: who comes back goes on after it.
			if write(w, sse, local(l.id, max(from, 1)-1, TypeError, tokenGone)) == nil {
				c.Flush() //nolint:errcheck // the reader is gone
			}
			return nil
		}
		events, lost, ended, changed := l.log.Read(from)
		c.SetWriteDeadline(time.Now().Add(writeTimeout)) //nolint:errcheck // a recorder in tests has none
		if lost > 0 {
			gap := ErrorPayload{CodeLost, fmt.Sprintf("events %d to %d are no longer kept", from, lost), false, max(from, 1), lost}
			if write(w, sse, local(l.id, lost, TypeError, gap)) != nil {
				return nil
			}
			from = lost + 1
		}
		for _, e := range events {
			if by.held.Err() != nil {
				continue next
			}
			if f.Passes(e) && write(w, sse, e) != nil {
				return nil
			}
			from = e.Seq + 1
		}
		if c.Flush() != nil || ended {
			return nil
		}
		if len(events) > 0 {
			changed = ready // there may be more; a heartbeat is due all the same
		}
		select {
		case now := <-beat.C:
			c.SetWriteDeadline(now.Add(writeTimeout)) //nolint:errcheck // as above
			if write(w, sse, local(l.id, l.log.Last(), TypeHeartbeat, HeartbeatPayload{now.UTC()})) != nil || c.Flush() != nil {
				return nil
			}
			continue
		case <-changed:
		case <-by.held.Done():
		case <-r.Context().Done():
			return nil
		}
	}
}

// local makes an event of this connection alone; it takes no number of its own.
func local(session string, seq uint64, kind string, payload any) Event {
	text, err := json.Marshal(payload)
	if err != nil {
		text = json.RawMessage(`{}`)
	}
	return Event{ProtocolVersion, session, seq, kind, text}
}

func write(w http.ResponseWriter, sse bool, e Event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if !sse {
		_, err = w.Write(append(text, '\n'))
		return err
	}
	id := ""
	if e.Type != TypeHeartbeat {
		id = "id: " + strconv.FormatUint(e.Seq, 10) + "\n"
	}
	_, err = fmt.Fprintf(w, "%sevent: %s\ndata: %s\n\n", id, e.Type, text)
	return err
}
