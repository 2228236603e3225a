package engine

import (
	"errors"
	"strconv"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

type ttlSpecification struct {
	AttributeName *string
	Enabled       bool
}

type describeTTLInput struct{ onTable }

type ttlDescription struct {
	TimeToLiveStatus string
	AttributeName    string `json:",omitempty"`
}

func (in *describeTTLInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(_ *tx, table *table) (any, error) {
		d := ttlDescription{"DISABLED", table.ttl}
		if table.ttl != "" {
			d.TimeToLiveStatus = "ENABLED"
		}
		return struct{ TimeToLiveDescription ttlDescription }{d}, nil
	})
}

type updateTTLInput struct {
	onTable
	TimeToLiveSpecification *ttlSpecification
}

const maxKeyName = 255

func (in *updateTTLInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(_ *tx, table *table) (any, error) {
		spec := in.TimeToLiveSpecification
		switch {
		case spec == nil:
			return nil, validation("TimeToLiveSpecification cannot be null")
		case spec.AttributeName == nil:
			return nil, validation("AttributeName cannot be null when time to live is being enabled")
		case spec.Enabled && (*spec.AttributeName == "" || len(*spec.AttributeName) > maxKeyName):
			return nil, validation(
				"Names of key attributes and attributes projected into an index must be between 1 and 255 characters, inclusive")
		case table.ttl == "" && !spec.Enabled:
			return nil, validation("TimeToLive is already disabled")
		case table.ttl != "" && table.ttl != *spec.AttributeName:
			return nil, validation("TimeToLive is active on a different AttributeName")
		case table.ttl != "" && spec.Enabled:
			return nil, validation("TimeToLive is already enabled")
		}
		table.ttl = ""
		if spec.Enabled {
			table.ttl = *spec.AttributeName
		}
		return struct {
			TimeToLiveSpecification ttlSpecification
		}{*spec}, nil
	})
}

// tooOld is how long ago an expiry may lie: the service takes older ones for a mistake and keeps the item.
const tooOld = 5 * 365 * 24 * time.Hour

// Expire deletes the items whose time to live is over, as the service does some time after it, and tells how many.
// observe is told of them as of one request without a client.
func (e *Engine) Expire(observe func(Applied)) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &tx{engine: e, now: e.now()}
	for _, name := range sorted(e.tables) {
		table := e.tables[name]
		if table.ttl == "" {
			continue
		}
		var expired []attr.Item
		for item := range table.scan(nil, 0, 1) {
			if t.expired(item[table.ttl]) {
				expired = append(expired, item)
			}
		}
		for _, item := range expired {
			t.commit(change{&write{table: table, key: table.keyOf(item)}, item, nil})
		}
	}
	if len(t.writes) > 0 {
		observe(Applied{Writes: t.writes})
	}
	return len(t.writes)
}

func (t *tx) expired(at attr.Value) bool {
	seconds, err := strconv.ParseFloat(at.Str, 64)
	if at.Kind != attr.N || err != nil {
		return false
	}
	age := float64(t.now.Unix()) - seconds
	return age > 0 && age < tooOld.Seconds()
}

type describeBackupsInput struct{ onTable }

type backupsOutput struct{ ContinuousBackupsDescription backupsDescription }

type backupsDescription struct {
	ContinuousBackupsStatus        string
	PointInTimeRecoveryDescription recoveryDescription
}

type recoveryDescription struct {
	PointInTimeRecoveryStatus  string
	RecoveryPeriodInDays       int     `json:",omitempty"`
	EarliestRestorableDateTime float64 `json:",omitempty"`
	LatestRestorableDateTime   float64 `json:",omitempty"`
}

const recoveryDays = 35

func (table *table) backups(now time.Time) backupsOutput {
	d := recoveryDescription{PointInTimeRecoveryStatus: "DISABLED"}
	if !table.recoverySince.IsZero() {
		d = recoveryDescription{"ENABLED", table.recoveryDays, epoch(table.recoverySince), epoch(now)}
	}
	return backupsOutput{backupsDescription{"ENABLED", d}}
}

func (in *describeBackupsInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(t *tx, table *table) (any, error) { return table.backups(t.now), nil })
}

type updateBackupsInput struct {
	onTable
	PointInTimeRecoverySpecification *struct {
		PointInTimeRecoveryEnabled bool
		RecoveryPeriodInDays       *int
	}
}

func (in *updateBackupsInput) plan(e *Engine) (func(*tx) (any, error), error) {
	spec := in.PointInTimeRecoverySpecification
	if spec == nil {
		return nil, validation(
			"Value null at 'pointInTimeRecoverySpecification' failed to satisfy constraint: Member must not be null")
	}
	days := recoveryDays
	if spec.RecoveryPeriodInDays != nil {
		days = *spec.RecoveryPeriodInDays
	}
	if days < 1 || days > recoveryDays {
		return nil, validation(
			"Value '%d' at 'recoveryPeriodInDays' failed to satisfy constraint: Member must be between 1 and %d", days,
			recoveryDays)
	}
	return in.with(e, func(t *tx, table *table) (any, error) {
		switch {
		case !spec.PointInTimeRecoveryEnabled:
			table.recoverySince = time.Time{}
		case table.recoverySince.IsZero():
			table.recoverySince = t.now
		}
		table.recoveryDays = days
		return table.backups(t.now), nil
	})
}

type tag struct{ Key, Value string }

// onResource are the parameters of operations on tags.
type onResource struct{ ResourceArn *string }

func (in *onResource) targets(e *Engine) []Target { return []Target{e.target(in.ResourceArn, nil)} }

func (in *onResource) with(e *Engine, run func(*tx, *table) (any, error)) (func(*tx) (any, error), error) {
	if in.ResourceArn == nil {
		return nil, validation("Value null at 'resourceArn' failed to satisfy constraint: Member must not be null")
	}
	on := onTable{in.ResourceArn}
	locked, err := on.with(e, run)
	if errors.Is(err, errNoTable) {
		err = serviceError("ResourceNotFoundException", "Requested resource not found: ResourceArn: %s not found",
			*in.ResourceArn)
	}
	return locked, err
}

type tagInput struct {
	onResource
	Tags []tag
}

func (in *tagInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(_ *tx, table *table) (any, error) {
		for _, t := range in.Tags {
			table.tags[t.Key] = t.Value
		}
		return struct{}{}, nil
	})
}

type untagInput struct {
	onResource
	TagKeys []string
}

func (in *untagInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(_ *tx, table *table) (any, error) {
		for _, key := range in.TagKeys {
			delete(table.tags, key)
		}
		return struct{}{}, nil
	})
}

type listTagsInput struct{ onResource }

func (in *listTagsInput) plan(e *Engine) (func(*tx) (any, error), error) {
	return in.with(e, func(_ *tx, table *table) (any, error) {
		tags := []tag{}
		for _, key := range sorted(table.tags) {
			tags = append(tags, tag{key, table.tags[key]})
		}
		return struct{ Tags []tag }{tags}, nil
	})
}
