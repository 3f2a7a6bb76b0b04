/* A whole step, from token ids to logits, as phases of the pool. The caller has checked all numbers. */
#include "native.h"

typedef struct {
  int32_t rows, samples, copies;
  const int32_t *token_ids, *positions;
  const int32_t *row_tables;  /* [rows]: where in `blocks` the row's sequence begins */
  const int32_t *blocks;
  const int32_t *sample_rows; /* [samples] */
  const int32_t *copied;      /* [copies][3]: source, target, tokens */
  float *logits;              /* [samples][vocab up to whole tiles] */
} Step;

/* What the items of a phase see. */
typedef struct {
  Model *model;
  const Step *step;
  const Layer *layer;
  int layer_number;
  const float *source; /* rows to norm or quantise: [..][stride] */
  size_t stride;
  const Matrix *matrix; /* what they are multiplied with */
  const float *norm;    /* NULL: quantise only */
  const int32_t *picks; /* NULL: all rows */
} Phase;

static void copy_item(void *context, int layer, int thread) {
  (void)thread;
  const Phase *phase = context;
  const Model *model = phase->model;
  const Step *step = phase->step;
  const Config *c = &model->config;
  const size_t key_rows = (size_t)c->kv_heads * (size_t)c->head_dim, value_row = (size_t)model->padded_dim;
  float *keys = model->keys + (size_t)layer * model->layer_keys;
  float *values = model->values + (size_t)layer * model->layer_values;
  for (int i = 0; i < step->copies; i++) {
    const size_t source = (size_t)step->copied[3 * i], target = (size_t)step->copied[3 * i + 1];
    const size_t tokens = (size_t)step->copied[3 * i + 2];
    for (size_t r = 0; r < key_rows; r++)
      memcpy(keys + (target * key_rows + r) * BLOCK_TOKENS, keys + (source * key_rows + r) * BLOCK_TOKENS,
             tokens * sizeof(float));
    for (size_t h = 0; h < (size_t)c->kv_heads; h++)
      memcpy(values + (target * (size_t)c->kv_heads + h) * BLOCK_TOKENS * value_row,
             values + (source * (size_t)c->kv_heads + h) * BLOCK_TOKENS * value_row, tokens * value_row * sizeof(float));
  }
}

static void embed_item(void *context, int row, int thread) {
  (void)thread;
  const Phase *phase = context;
  const Model *model = phase->model;
  const size_t hidden = (size_t)model->config.hidden, from = (size_t)phase->step->token_ids[row] * hidden;
  float *x = model->x + (size_t)row * model->hidden_stride;
  if (model->embedding_held == BFLOAT16)
    widen((const uint16_t *)model->embedding + from, hidden, x);
  else
    memcpy(x, (const float *)model->embedding + from, hidden * sizeof(float));
}

static void prepare_item(void *context, int row, int thread) {
  (void)thread;
  const Phase *phase = context;
  Model *model = phase->model;
  const float *x = phase->source + (size_t)(phase->picks ? phase->picks[row] : row) * phase->stride;
  if (phase->norm) {
    float *normed = model->normed + (size_t)row * model->hidden_stride;
    rms_norm(x, phase->norm, model->config.eps, phase->matrix->inputs, normed);
    x = normed;
  }
  if (phase->matrix->held == INT8) quantise_row(&model->quantised, row, x, phase->matrix->inputs);
}

/* Inputs of a product with `matrix` of rows [rows][stride], with a norm before it or not. */
static Inputs prepare(Phase *phase, const Matrix *matrix, float *source, size_t stride, const float *norm, int rows) {
  Model *model = phase->model;
  phase->source = source;
  phase->stride = stride;
  phase->matrix = matrix;
  phase->norm = norm;
  /* quantise_row writes rows of as many groups as this product has. */
  model->quantised.groups = matrix->groups;
  if (norm || matrix->held == INT8) pool_run(model->pool, prepare_item, phase, rows);
  if (matrix->held == INT8) return model->quantised;
  return (Inputs){.x = norm ? model->normed : source, .stride = norm ? model->hidden_stride : stride};
}

/* Norms and turns the queries and keys of a row; keys and values go to its place in its block. */
static void place_item(void *context, int row, int thread) {
  (void)thread;
  const Phase *phase = context;
  Model *model = phase->model;
  const Config *c = &model->config;
  const int position = phase->step->positions[row], dim = c->head_dim, at = position % BLOCK_TOKENS;
  const float *cos = model->cos + (size_t)position * (size_t)(dim / 2);
  const float *sin = model->sin + (size_t)position * (size_t)(dim / 2);
  float *query = model->qkv + (size_t)row * model->qkv_stride;
  const float scale = 1.0f / sqrtf((float)dim);
  for (int head = 0; head < c->heads; head++, query += dim) {
    if (phase->layer->query_norm) rms_norm(query, phase->layer->query_norm, c->eps, dim, query);
    rotate_head(query, cos, sin, dim);
    for (int d = 0; d < dim; d++) query[d] *= scale;
  }
  const size_t block = (size_t)model->tables[row][position / BLOCK_TOKENS] * (size_t)c->kv_heads;
  float *keys = model->keys + (size_t)phase->layer_number * model->layer_keys + block * (size_t)dim * BLOCK_TOKENS;
  float *values = model->values + (size_t)phase->layer_number * model->layer_values +
                  block * BLOCK_TOKENS * (size_t)model->padded_dim;
  float *key = query, *value = query + c->kv_heads * dim;
  for (int head = 0; head < c->kv_heads; head++, key += dim, value += dim) {
    if (phase->layer->key_norm) rms_norm(key, phase->layer->key_norm, c->eps, dim, key);
    rotate_head(key, cos, sin, dim);
    for (int d = 0; d < dim; d++) keys[(head * dim + d) * BLOCK_TOKENS + at] = key[d];
    memcpy(values + (size_t)(head * BLOCK_TOKENS + at) * (size_t)model->padded_dim, value, (size_t)dim * sizeof(float));
  }
}

static void run_layer(Phase *phase, Attention *attention, int rows) {
  Model *model = phase->model;
  const Layer *layer = phase->layer;
  Pool *pool = model->pool;
  Inputs inputs = prepare(phase, &layer->qkv, model->x, model->hidden_stride, layer->input_norm, rows);
  product(pool, &layer->qkv, &inputs, rows, model->qkv, model->qkv_stride, STORE);
  pool_run(pool, place_item, phase, rows);
  attention->keys = model->keys + (size_t)phase->layer_number * model->layer_keys;
  attention->values = model->values + (size_t)phase->layer_number * model->layer_values;
  attend(pool, attention);
  inputs = prepare(phase, &layer->output, model->attended, model->attended_stride, NULL, rows);
  product(pool, &layer->output, &inputs, rows, model->x, model->hidden_stride, ADD);
  inputs = prepare(phase, &layer->gate_up, model->x, model->hidden_stride, layer->post_norm, rows);
  product(pool, &layer->gate_up, &inputs, rows, model->gated, model->gated_stride, GATE);
  inputs = prepare(phase, &layer->down, model->gated, model->gated_stride, NULL, rows);
  product(pool, &layer->down, &inputs, rows, model->x, model->hidden_stride, ADD);
}

/* 0, or 1: no memory, and nothing is computed. */
int model_step(Model *model, const Step *step) {
  const Config *c = &model->config;
  if (model_reserve(model, step->rows)) return 1;
  pool_begin(model->pool);
  Phase phase = {.model = model, .step = step};
  if (step->copies) pool_run(model->pool, copy_item, &phase, c->layers);
  for (int row = 0; row < step->rows; row++) model->tables[row] = step->blocks + step->row_tables[row];
  Attention attention = {
      .heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim, .padded_dim = model->padded_dim,
      .window = c->window, .queries = model->qkv, .query_stride = model->qkv_stride, .out = model->attended,
      .out_stride = model->attended_stride, .positions = step->positions, .tables = model->tables,
      .scratch = model->scratch, .scratch_stride = model->scratch_stride};
  attention_tiles(&attention, step->rows, model->starts);
  pool_run(model->pool, embed_item, &phase, step->rows);
  for (int i = 0; i < c->layers; i++) {
    phase.layer = &model->layers[i];
    phase.layer_number = i;
    run_layer(&phase, &attention, step->rows);
  }
  if (step->samples) {
    phase.picks = step->sample_rows;
    const Inputs inputs =
        prepare(&phase, &model->head, model->x, model->hidden_stride, model->final_norm, step->samples);
    product(model->pool, &model->head, &inputs, step->samples, step->logits, (size_t)model->head.tiles * TILE, STORE);
  }
  pool_end(model->pool);
  return 0;
}
