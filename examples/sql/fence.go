// Package fence shows how a PostgreSQL database refuses the writes of a former holder: whoever froze, or was cut off,
// while another process took the lock over. The database remembers the largest fencing token that wrote, and takes no
// smaller one. The functions are to be copied; their tests run on a real server.
//
// There are two places for the token:
//
//   - a column of the row that is written, where a write is one UPDATE: [SetBalance];
//   - a row for the lock, where a write is a transaction over any number of rows: [Transact].
//
// An existing table gets the column by
//
//	ALTER TABLE account ADD COLUMN fence bigint NOT NULL DEFAULT 0
//
// A token fits a bigint, and every token is above 0. NOT NULL matters: NULL <= 7 is not true, so a row without a value
// could never be written. A row that is deleted takes its fence along, and a former holder can then insert it anew:
// where that matters, mark rows as deleted, or use Transact.
//
// A former holder is refused from the first write of its successor on. What it writes before that is as if it had been
// written in time: the successor reads it.
package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Schema makes the tables of this example.
const Schema = `
CREATE TABLE account (
	id      text   PRIMARY KEY,
	balance bigint NOT NULL,
	fence   bigint NOT NULL DEFAULT 0
);
CREATE TABLE lock_fence (
	key   text   PRIMARY KEY,
	fence bigint NOT NULL
)`

// ErrStale says that a newer holder of the lock has written. The caller has lost the lock, whatever it believes.
var ErrStale = errors.New("a newer holder of the lock has written")

// SetBalance writes one row. token is the Token of the lock that guards it. Nothing is written if the error matches
// ErrStale, or sql.ErrNoRows where there is no such account.
func SetBalance(ctx context.Context, db *sql.DB, token uint64, id string, balance int64) error {
	result, err := db.ExecContext(ctx,
		`UPDATE account SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2`, balance, token, id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	// No row: either there is none, or its fence is above the token. The row tells which.
	var fence uint64
	switch err := db.QueryRowContext(ctx, `SELECT fence FROM account WHERE id = $1`, id).Scan(&fence); {
	case err != nil:
		return fmt.Errorf("account %s: %w", id, err)
	case fence > token:
		return fmt.Errorf("account %s: %w (token %d, ours is %d)", id, ErrStale, fence, token)
	}
	return fmt.Errorf("account %s was made while it was written: try again", id)
}

// Transact runs fn in a transaction that commits only if no newer holder of the lock key has begun one. It writes the
// token first, which locks the row: a transaction of another holder waits until this one has ended, and is then judged.
// Here no row means only that a newer holder has written. An error of fn, and ErrStale, roll everything back. At the
// levels above the default, read committed, the one that waited fails with a serialization error (SQLSTATE 40001)
// instead of ErrStale, and may be repeated.
func Transact(
	ctx context.Context, db *sql.DB, opts *sql.TxOptions, key string, token uint64, fn func(tx *sql.Tx) error,
) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // of what has not been committed
	result, err := tx.ExecContext(ctx, `
		INSERT INTO lock_fence (key, fence) VALUES ($1, $2)
		ON CONFLICT (key) DO UPDATE SET fence = EXCLUDED.fence WHERE lock_fence.fence <= EXCLUDED.fence`, key, token)
	if err != nil {
		return err
	}
	switch n, err := result.RowsAffected(); {
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("lock %s: %w (our token is %d)", key, ErrStale, token)
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}
