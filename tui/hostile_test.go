package tui

import (
	"context"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"enclave/tui/frame"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// escapes is what a hostile server puts behind every text.
const escapes = "\x1b]52;c;QUFB\x07\u009b2J\u202e\u200f\r\n"

// spoil puts escapes behind every text that v leads to.
func spoil(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() && v.String() != "" {
			v.SetString(v.String() + escapes)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			spoil(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				spoil(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			spoil(v.Index(i))
		}
	}
}

func spoilt[T any](v T, err error) (T, error) {
	spoil(reflect.ValueOf(&v))
	return v, err
}

// hostile answers with escapes in everything that is text.
type hostile struct{ *server }

func (h hostile) Flows(ctx context.Context) ([]api.LiveFlow, error) {
	return spoilt(h.server.Flows(ctx))
}
func (h hostile) Denied(ctx context.Context) ([]api.Denied, error) {
	return spoilt(h.server.Denied(ctx))
}
func (h hostile) Paths(ctx context.Context, s string) ([]api.PeerPath, error) {
	return spoilt(h.server.Paths(ctx, s))
}
func (h hostile) Access(ctx context.Context, s string, at time.Time) (api.SystemAccess, error) {
	return spoilt(h.server.Access(ctx, s, at))
}
func (h hostile) Explain(ctx context.Context, a, b string, p wire.Proto, port uint16, at time.Time) (api.Explanation, error) {
	return spoilt(h.server.Explain(ctx, a, b, p, port, at))
}
func (h hostile) Graph(ctx context.Context, at time.Time, from, to wire.Tag) (api.Graph, error) {
	return spoilt(h.server.Graph(ctx, at, from, to))
}
func (h hostile) TagGraph(ctx context.Context, at time.Time) (api.TagGraph, error) {
	return spoilt(h.server.TagGraph(ctx, at))
}
func (h hostile) Audit(ctx context.Context, q url.Values, n int) ([]api.AuditRecord, error) {
	return spoilt(h.server.Audit(ctx, q, n))
}

// TestAHostileServerReachesNoTerminal: IDs, states and kinds are texts, too.
func TestAHostileServerReachesNoTerminal(t *testing.T) {
	for name, path := range views {
		s := lab()
		spoil(reflect.ValueOf(&s.org))
		spoil(reflect.ValueOf(&s.audit))
		m := New(Config{Client: hostile{s}, Theme: theme.New(lipgloss.NewRenderer(nil, termenv.WithProfile(termenv.ANSI)), false), Now: now})
		m.Update(load(hostile{s})())
		m.Update(records(s.audit))
		press(m, path...)
		m.Update(tea.WindowSizeMsg{Width: 120, Height: 40})
		view := m.View()
		if i := strings.IndexAny(view, "\a\r\u009b\u202e\u200f"); i >= 0 || strings.Contains(view, "\x1b]") {
			t.Errorf("%s: an escape sequence came through: %q", name, view[max(0, i-60):min(len(view), max(0, i)+20)])
		}
		frame.Check(t, view, 120, 40)
	}
}
