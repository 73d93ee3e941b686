package wire

import "time"

// PathFlows is where an agent answers an Ask: POST FlowReport -> 204.
const PathFlows = "/agent/v1/flows"

// MaxReportedFlows is how many flows one report names; More counts the rest.
const MaxReportedFlows = 800

// Ask is a question of control, sent down the map stream. It changes nothing, and an
// agent that cannot answer in time lets it be.
type Ask struct {
	ID    string `json:"id"`              // goes into the answer
	Flows bool   `json:"flows,omitempty"` // which flows live now?
}

// FlowReport answers an Ask for flows.
type FlowReport struct {
	ID    string         `json:"id"`
	Flows []ReportedFlow `json:"flows"`
	More  int            `json:"more,omitempty"` // flows that are not named
}

// ReportedFlow is a live flow as one of its ends sees it.
type ReportedFlow struct {
	Flow
	Peer    SystemID  `json:"peer"`
	Inbound bool      `json:"inbound"` // the peer opened it
	Since   time.Time `json:"since"`
	Bytes   uint64    `json:"bytes"`
}
