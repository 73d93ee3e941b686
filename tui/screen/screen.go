// Package screen is what the screens of the terminal UI share: the Client they ask, the
// State they draw, and the messages by which they speak to the root.
//
// A screen owns what only it needs (cursor, search, form). It does no I/O: whatever takes
// time is a tea.Cmd that calls the Client and comes back as a message, and no command
// touches a screen. State is written by the root alone, between messages.
package screen

import (
	"context"
	"net/url"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// Client is what the terminal UI reads. It is called from commands, several at once.
type Client interface {
	Revision(ctx context.Context) (api.RevisionStatus, error)
	Systems(ctx context.Context, query url.Values) ([]api.System, error)
	Policies(ctx context.Context) ([]api.Policy, error)
	Relays(ctx context.Context) ([]api.Relay, error)
	Agents
	Asker
	Trail
	Auditor
	Changer
	Editor
	Stewards
}

// Agents asks the connected agents.
type Agents interface {
	Flows(ctx context.Context) ([]api.LiveFlow, error)
	// Denied is what their filters have refused of late.
	Denied(ctx context.Context) ([]api.Denied, error)
	// Paths is how a system reaches its peers.
	Paths(ctx context.Context, system string) ([]api.PeerPath, error)
	// CutFlow ends a flow at both ends; with dry it says which ones it would end.
	CutFlow(ctx context.Context, dry bool, f *api.LiveFlow) (api.Impact, error)
}

// Asker answers questions about policy.
type Asker interface {
	Explain(ctx context.Context, from, to string, proto wire.Proto, port uint16, at time.Time) (api.Explanation, error)
	Forecast(ctx context.Context, days int) ([]api.Coming, error)
	// Graph is of senders and receivers that carry these tags; an empty one is everybody.
	// A zero instant is now.
	Graph(ctx context.Context, at time.Time, from, to wire.Tag) (api.Graph, error)
	TagGraph(ctx context.Context, at time.Time) (api.TagGraph, error)
	// Access is what a system may open, and who may open what to it.
	Access(ctx context.Context, system string, at time.Time) (api.SystemAccess, error)
}

// Trail reads the audit trail.
type Trail interface {
	// Audit returns the newest limit records in their order.
	Audit(ctx context.Context, query url.Values, limit int) ([]api.AuditRecord, error)
	// FollowAudit calls f with each record after a number, until ctx ends or an error.
	FollowAudit(ctx context.Context, query url.Values, after int64, f func(*api.AuditRecord) error) error
}

// Auditor proves the trail.
type Auditor interface {
	// VerifyAudit reads all of the trail and checks chain, tree and signature, against what
	// earlier calls have seen of it; progress is told from another goroutine.
	VerifyAudit(ctx context.Context, progress func(done, total int64)) (Verified, error)
}

// Verified is what a verification of the trail found.
type Verified struct {
	First, Last int64
	Sealed      int64 // of them, whose detail nobody can read any more
	Origin      string
	Root        string
	Key         string // public, by which it was checked
	Since       int64  // size of the trail that an earlier verification saw; 0 is none
	Wrong       string // the first thing that is; empty is nothing
	Proven      int64  // the last record up to which all is as it was signed
}

// Changer changes the organisation. With dry, a method changes nothing and returns what
// the change would do.
type Changer interface {
	SystemVerb(ctx context.Context, dry bool, name, verb string) (api.Impact, error)
	Tag(ctx context.Context, dry bool, name string, add, remove []wire.Tag) (api.Impact, error)
	Expire(ctx context.Context, dry bool, name string, u api.SystemUpdate) (api.Impact, error)
	PolicyVerb(ctx context.Context, dry bool, name, verb string) (api.Impact, error)
}

// Editor changes whole policies and goes back to what they were.
type Editor interface {
	Save(ctx context.Context, dry bool, in Saving) (api.Impact, error)
	// Confirm keeps a change that would revert by itself.
	Confirm(ctx context.Context, dry bool) (api.Impact, error)
	// History returns the newest limit revisions of the policy set, newest first.
	History(ctx context.Context, limit int) ([]api.RevisionEntry, error)
	Compare(ctx context.Context, from, to wire.Revision) (api.SetDiff, error)
	Restore(ctx context.Context, dry bool, rev wire.Revision) (api.Impact, error)
}

// Saving is a policy to be saved; one without an ID is new.
type Saving struct {
	Policy        wire.Policy
	Version       wire.Revision // it must still be at; 0 does not ask
	ConfirmWithin time.Duration // it reverts then unless it is confirmed; 0 keeps it
}

// Patience bounds a call: a server that takes longer is treated as one that is away.
const Patience = 10 * time.Second

// Line is how the connection to the server stands.
type Line struct {
	Err   error     // of the last attempt; nil is connected
	Since time.Time // when it was last heard
}

// State is what every screen may draw.
type State struct {
	Theme    theme.Theme
	Client   Client
	ReadOnly bool
	Now      time.Time
	Line     Line
	Loaded   bool // Org has been read at least once
	Org      Org
	Audit    []api.AuditRecord // the newest MaxAudit, oldest first
}

// Named writes the object of a record with the name that people know it by.
func (s *State) Named(object string) string {
	kind, id, ok := strings.Cut(object, ":")
	if !ok {
		return object
	}
	for i := range s.Org.Policies {
		if p := &s.Org.Policies[i]; kind == "policy" && string(p.ID) == id {
			return p.Name
		}
	}
	for i := range s.Org.Systems {
		if sys := &s.Org.Systems[i]; kind == "system" && string(sys.ID) == id {
			return sys.Name
		}
	}
	return object
}

// MaxAudit is how many records are kept; older ones are the export's business.
const MaxAudit = 500

// Org is one reading of the organisation.
type Org struct {
	Revision api.RevisionStatus
	Systems  []api.System
	Policies []api.Policy
	Relays   []api.Relay
	Coming   []api.Coming
}

// Screen is one screen. Update may change the screen only; View draws exactly w by h.
type Screen interface {
	Name() string
	Keys() []keys.Binding
	// Typing reports whether letters belong to a text field, so that none is a command.
	Typing() bool
	Update(msg tea.Msg, s *State) tea.Cmd
	View(s *State, w, h int) string
}

// Clicker is a screen that a mouse can point at. Click puts the cursor where x and y of the
// last View are and reports whether it was there before.
type Clicker interface {
	Click(x, y int, s *State) (again bool)
}

// Shown tells a screen that it is on top now; Tick, once a second, that it still is.
type (
	Shown struct{}
	Tick  struct{}
)

// Say puts a sentence on the hint line.
type Say struct {
	Text string
	Err  error
}

// Tell is the command for Say.
func Tell(text string, err error) tea.Cmd { return func() tea.Msg { return Say{text, err} } }

// Propose asks the root to show what a change would do and to make it when told so.
type Propose struct {
	Title string
	Warn  string   // what cannot be taken back
	What  []string // what it is, in lines, where the title does not say all
	Steps []Step   // one a changed object
	Done  string   // said afterwards
	Then  tea.Msg  // sent to the screen afterwards; nil is nothing
}

// Step is one change; dry changes nothing.
type Step func(ctx context.Context, dry bool) (api.Impact, error)

// Ask is the command for Propose.
func Ask(p Propose) tea.Cmd { return func() tea.Msg { return p } }

// Call runs f with the patience of a call.
func Call(f func(ctx context.Context) tea.Msg) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		return f(ctx)
	}
}
