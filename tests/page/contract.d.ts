// The data that the page draws, and what its parts hand to one another. Only for the type checker: nothing of it is in the page.

type Tone = "live" | "good" | "bad" | "late" | "lost" | "asks" | "off" | "fire";

interface ServerHead {
  program?: string;
  home?: string;
  time_zone?: string;
  tools?: string[];
}

interface AttentionRow {
  key: string;
  kind: string;
  severity: "problem" | "notice";
  text: string;
  fix?: string;
  routine?: string;
  run?: string;
  at?: string;
  command?: string;
  action?: { label: string; tool: string; arguments: Record<string, unknown> };
  /** What a run asks; `text` is all of it, if that is more than the first line. */
  question?: { kind: "decision" | "login"; text?: string; options?: string[]; expires_at?: string };
}

interface LiveRow {
  id: string;
  routine: string;
  status: string;
  status_reason?: string;
  triggered_at: string;
  started_at?: string;
  max_runtime_secs?: number;
  /** Where that counts from, if not from the trigger. */
  bound_from?: string;
  last_output_at?: string;
  max_silence_secs?: number;
  job?: { id: string; node?: string; partition?: string; state?: string };
  attach_command?: string;
  pinned?: boolean;
  headline?: string;
}

interface UsedToday {
  runs?: number;
  max_daily_runs?: number;
  cost_usd?: number;
  max_daily_cost_usd?: number;
  unknown_cost_runs?: number;
  until?: string;
}

interface RoutineRow {
  slug: string;
  title?: string;
  agent?: string;
  enabled?: boolean;
  disabled_because?: string;
  schedule_description?: string;
  timezone?: string;
  schedule_problem?: string;
  snoozed_until?: string;
  waiting?: string;
  waiting_until?: string;
  running?: string[];
  next_fires?: string[];
  /** Today first. */
  fires_per_day?: number[];
  /** How many of the runs without a row ended, and ended badly: today first, then the days before. */
  earlier_per_day?: { runs: number; bad: number }[];
  recent?: { id: string; status: string; duration_secs?: number }[];
  success_rate?: number;
  median_secs?: number;
  cost_usd_7d?: number;
  used_today?: UsedToday;
  tags?: string[];
}

interface EndedRow {
  id: string;
  routine: string;
  status: string;
  reason?: string;
  triggered_at: string;
  finished_at?: string;
  duration_secs?: number;
  verified?: boolean;
  disagreements?: string[];
  headline?: string;
  cost_usd?: number;
  reap_at?: string;
  reaped?: boolean;
  pinned?: boolean;
  unsaved?: boolean;
  archived?: boolean;
}

interface StoreRow {
  name: string;
  path?: string;
  bytes: number;
  bytes_complete?: boolean;
  max_bytes?: number;
  max_age_secs?: number;
  if_lost?: string;
  goes_next?: { name: string; at: string };
}


/** A run in lists and pictures, alive or ended, with its times as numbers. */
interface Run {
  id: string;
  routine: string;
  status: string;
  tone: Tone;
  at: number;
  end: number;
  alive: boolean;
  isBad: boolean;
  isKept: boolean;
  reason: string | undefined;
  row: LiveRow & EndedRow;
}

interface Part {
  version: string;
  head: Record<string, any>;
  rows: Map<string, any>;
}

interface DataAnswer {
  now?: string;
  parts?: Record<string, { version: string; whole?: boolean; head?: object; rows?: any[]; gone?: string[] }>;
}

interface VNode {
  tag: string;
  props: Record<string, any>;
  kids: Kid[];
}
type Kid = VNode | string | Element;
type Kids = Kid | number | null | undefined | false | Kids[];

/** How the page reaches the tools. */
interface Link {
  call(tool: string, args: object, agreement?: string): Promise<any>;
  /** Calls back whenever something has changed, where the other side can tell. */
  listen?(onChange: () => void): void;
}

/** What a place of the page is doing: it asks, waits, or says how it went. */
interface Doing {
  phase: "ask" | "wait" | "error" | "done";
  text: string;
  yes?: string | undefined;
  since?: number;
  go?: () => void;
  open?: string;
  origin?: Element | null;
}

interface Action {
  place: string;
  tool: string;
  args: object;
  /** What is asked first, where it ends or removes something. */
  ask?: string | undefined;
  yes?: string;
  /** What is said once it is done. */
  said: string | ((answer: any) => string);
}
