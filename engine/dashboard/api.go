package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/telemetry"
)

// maxCompared is the number of runs that can be compared at a time.
const maxCompared = 64

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer cannot be written as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(text) // who has gone away misses it
}

// list answers /api/runs.
func (s *Server) list(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.watcher.List()) }

// runView is what the page draws of a run.
type runView struct {
	ID          string           `json:"id"`
	Version     int64            `json:"version"`
	Table       tableView        `json:"table"`   // of the epochs
	Updates     tableView        `json:"updates"` // of those updates that were recorded
	Notes       []note           `json:"notes"`
	Checkpoints []checkpointView `json:"checkpoints"`
}

type checkpointView struct {
	Name    string    `json:"name"`
	Updates int64     `json:"updates"`
	Bytes   int64     `json:"bytes"`
	Time    time.Time `json:"time"`
}

// run answers /api/run?id=ID: a run's curves, or what is new of the epochs' since &generation= and &from=, and of the updates'
// since &updates_generation= and &updates_from=.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	news := func(t *table, prefix string) tableView {
		generation, err := strconv.Atoi(q.Get(prefix + "generation"))
		if err != nil {
			generation = -1
		}
		from, _ := strconv.Atoi(q.Get(prefix + "from")) // 0, all, if it is no number
		return t.view(generation, from)
	}
	v := runView{ID: q.Get("id")}
	var at run
	if !s.watcher.with(v.ID, func(r *run) {
		v.Version, v.Table, v.Updates, v.Notes = r.version, news(r.table, ""), news(r.updates, "updates_"), slices.Clone(r.notes)
		at.root, at.dir = r.root, r.dir
	}) {
		noRun(w, v.ID)
		return
	}
	v.Checkpoints = at.checkpoints()
	writeJSON(w, v)
}

func noRun(w http.ResponseWriter, id string) {
	http.Error(w, fmt.Sprintf("there is no run %q", id), http.StatusNotFound)
}

// checkpoints lists the run's checkpoints, newest first.
func (r *run) checkpoints() []checkpointView {
	out := []checkpointView{}
	entries, err := readFolder(r.root, path.Join(r.dir, "checkpoints"))
	if err != nil {
		return out // there is none yet
	}
	for _, e := range slices.Backward(entries) {
		updates, ok := checkpoint.Updates(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil {
			out = append(out, checkpointView{e.Name(), updates, info.Size(), info.ModTime()})
		}
	}
	return out
}

// differences answers /api/differences?run=ID&run=ID: the keys in which the runs' recipes differ.
func (s *Server) differences(w http.ResponseWriter, r *http.Request) {
	ids := r.URL.Query()["run"]
	if len(ids) > maxCompared {
		http.Error(w, fmt.Sprintf("%d runs: at most %d can be compared", len(ids), maxCompared), http.StatusBadRequest)
		return
	}
	var recipes []map[string]string
	for _, id := range ids {
		if !s.watcher.with(id, func(r *run) { recipes = append(recipes, r.recipe) }) { // a recipe is replaced, never changed
			noRun(w, id)
			return
		}
	}
	differences := telemetry.Differences(recipes)
	if differences == nil {
		differences = []telemetry.Difference{}
	}
	writeJSON(w, map[string]any{"runs": ids, "recipe_differences": differences})
}

// curvature answers /api/curvature?id=ID.
func (s *Server) curvature(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	var at run
	if !s.watcher.with(id, func(r *run) { at.root, at.dir = r.root, r.dir }) {
		noRun(w, id)
		return
	}
	writeJSON(w, at.measurements())
}
